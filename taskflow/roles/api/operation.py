"""Operations: what a handler says about itself for the API description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from taskflow.roles.api.answer import Answer

Handler = Callable[[Request], Awaitable[Answer]]
H = TypeVar("H", bound=Callable[..., Awaitable[Answer]])

COMMON: Final = (400, 404)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header. `schema` is its JSON Schema."""

    name: str
    schema: Mapping[str, Any]
    description: str
    where: str = "query"


@dataclass(frozen=True, slots=True)
class Media:
    """An answer that is no JSON document: its content types."""

    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    summary: str
    description: str
    tag: str
    answers: Mapping[int, type[BaseModel] | Media | None]
    body: type[BaseModel] | None = None
    body_optional: bool = False
    parameters: Sequence[Parameter] = ()
    problems: Sequence[int] = COMMON
    headers: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    public: bool = False


def op(
    summary: str,
    *,
    answers: Mapping[int, type[BaseModel] | Media | None],
    tag: str,
    body: type[BaseModel] | None = None,
    body_optional: bool = False,
    parameters: Sequence[Parameter] = (),
    problems: Sequence[int] = COMMON,
    headers: Mapping[int, Mapping[str, str]] | None = None,
    public: bool = False,
) -> Callable[[H], H]:
    """Describe a handler; its docstring is the description.

    Args:
        summary: a few words.
        answers: models by status, `None` for an answer without a body.
        problems: statuses that a problem document may have, beside those of every operation.
        headers: descriptions of answer headers, by status and name.
        public: needs no key.
    """

    def describe(handler: H) -> H:
        described = Operation(
            summary,
            " ".join((handler.__doc__ or "").split()),
            tag,
            answers,
            body,
            body_optional,
            tuple(parameters),
            tuple(problems),
            headers or {},
            public,
        )
        handler.__operation__ = described  # type: ignore[attr-defined]
        return handler

    return describe


def operation_of(handler: Handler) -> Operation | None:
    """What a handler says about itself."""
    return getattr(handler, "__operation__", None)
