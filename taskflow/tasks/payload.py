"""The payload: what a task's parameters say about it, whether a value fits, and how it becomes arguments.

A payload is the keyword arguments of the handler; or, where its one parameter is a pydantic model, the model; `**payload`
takes whatever else comes. Nothing is coerced: the JSON Schema made here refuses a text where a number belongs.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from taskflow.core.errors import FieldError, Invalid
from taskflow.tasks import jsontext
from taskflow.tasks.context import Context

_Kind = inspect.Parameter
_WIDE: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function takes its payload.

    Attributes:
        schema: JSON Schema of the payload, as text.
        model: pydantic model that reads it.
        whole: name of the parameter that takes the whole model, or `None`.
        context: name of the parameter that takes the context, or `None`.
        names: parameter names by field of `model`.
        positional: names of positional-only parameters, in order.
    """

    schema: str
    model: type[BaseModel]
    whole: str | None
    context: str | None
    names: dict[str, str]
    positional: tuple[str, ...]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Signature:
        """Read a function's parameters.

        Raises:
            TypeError: one of them cannot be filled from JSON.
        """
        try:
            parameters = list(inspect.signature(function, eval_str=True).parameters.values())
        except NameError as error:
            raise TypeError(f"an annotation cannot be read: {error}") from None
        contexts = [p.name for p in parameters if p.annotation is Context]
        if len(contexts) > 1:
            raise TypeError("more than one parameter is annotated Context")
        others = [p for p in parameters if p.annotation is not Context]
        if any(p.kind is _Kind.VAR_POSITIONAL for p in others):
            raise TypeError("*args cannot be filled from a JSON object: name the parameters, or use **payload")
        whole = others[0].name if len(others) == 1 and _is_model(others[0]) else None
        try:
            model, names = (others[0].annotation, {}) if whole else _model(function.__name__, others)
            schema = json.dumps(model.model_json_schema(by_alias=True), separators=(",", ":"))
        except PydanticUserError as error:
            raise TypeError(f"a parameter has no JSON form: {error.message.splitlines()[0]}") from None
        return cls(
            schema=schema,
            model=model,
            whole=whole,
            context=contexts[0] if contexts else None,
            names=names,
            positional=tuple(p.name for p in parameters if p.kind is _Kind.POSITIONAL_ONLY),
        )

    def bind(self, payload: str, context: Context) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for a payload that fits the schema.

        Raises:
            Invalid: it does not fit after all.
        """
        try:
            read = self.model.model_validate_json(payload)
        except ValidationError as error:
            raise Invalid(
                [FieldError("/payload" + "".join(f"/{part}" for part in e["loc"]), e["msg"]) for e in error.errors()]
            ) from None
        if self.whole:
            arguments: dict[str, Any] = {self.whole: read}
        else:
            given = read.model_fields_set
            arguments = {name: getattr(read, field) for field, name in self.names.items() if field in given}
            if read.model_extra:
                # Read again by our own parser: pydantic's turns huge numbers of untyped members into floats.
                exact = jsontext.loads(payload)
                arguments |= {name: exact[name] for name in read.model_extra}
        if self.context:
            arguments[self.context] = context
        positional = [arguments.pop(name) for name in self.positional if name in arguments]
        return positional, arguments


class SchemaChecker:
    """A JSON Schema, compiled once."""

    def __init__(self, schema: str) -> None:
        self._validator = jsonschema_rs.validator_for(json.loads(schema))

    def errors(self, payload: Any) -> list[FieldError]:
        """What in a payload does not fit, each with its pointer (`/payload/...`)."""
        found = []
        for error in self._validator.iter_errors(_narrow(payload)):
            path = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in error.instance_path)
            missing = getattr(error.kind, "property", None)
            path += f"/{missing}" if missing else ""
            found.append(FieldError("/payload" + path, error.message[:500]))
        return found[:50]


@lru_cache(maxsize=1_000)
def checker(schema: str) -> SchemaChecker:
    """The compiled form of a schema text."""
    return SchemaChecker(schema)


def _narrow(value: Any) -> Any:
    """The value with huge integers made small: the checker knows integers of 64 bits, and their type is what counts."""
    if isinstance(value, dict):
        return {key: _narrow(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_narrow(item) for item in value]
    if type(value) is int and not -_WIDE <= value < _WIDE:
        return _WIDE - 1 if value > 0 else -_WIDE
    return value


def _is_model(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    return (
        isinstance(annotation, type)
        and issubclass(annotation, BaseModel)
        and parameter.kind is not _Kind.VAR_KEYWORD
        and parameter.default is _Kind.empty
    )


def _model(name: str, parameters: list[inspect.Parameter]) -> tuple[type[BaseModel], dict[str, str]]:
    open_ended = any(p.kind is _Kind.VAR_KEYWORD for p in parameters)
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for index, parameter in enumerate(p for p in parameters if p.kind is not _Kind.VAR_KEYWORD):
        annotation = Any if parameter.annotation is _Kind.empty else parameter.annotation
        default = ... if parameter.default is _Kind.empty else parameter.default
        # Fields have names of ours, since a parameter may be called like something of pydantic's.
        fields[f"field{index}"] = (annotation, Field(default, alias=parameter.name, title=parameter.name))
        names[f"field{index}"] = parameter.name
    config = ConfigDict(extra="allow" if open_ended else "forbid", title=name)
    return create_model("Payload", __config__=config, **fields), names
