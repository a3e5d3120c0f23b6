"""The payload: what a task's parameters say about it, whether a value fits, and how it becomes arguments.

A payload is the keyword arguments of the handler; or, where its one parameter is a pydantic model, the model; `**payload`
takes whatever else comes. Nothing is coerced: the JSON Schema made here refuses a text where a number belongs.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, Final, get_args
from uuid import UUID

import jsonschema_rs
from pydantic import AnyUrl, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError

from taskflow.core.errors import FieldError, Invalid
from taskflow.tasks import jsonread
from taskflow.tasks.context import Context

_Kind = inspect.Parameter
_ERRORS_SHOWN: Final = 50
_EXAMINED: Final = 2_000
"""Values in a payload of which every error is looked for: some microseconds each, while nobody else has a turn."""


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function takes its payload.

    Attributes:
        schema: JSON Schema of the payload, as text.
        model: pydantic model that reads it.
        whole: name of the parameter that takes the whole model, or `None`.
        context: name of the parameter that takes the context, or `None`. Where it is positional-only, a `**payload` may
            have a member of its name; elsewhere such a member is refused.
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
        except Exception as error:  # annotations are code: anything may come of reading them
            raise TypeError(f"an annotation cannot be read: {error}") from None
        contexts = [p.name for p in parameters if _is_context(p)]
        if len(contexts) > 1:
            raise TypeError("more than one parameter is annotated Context")
        others = [p for p in parameters if not _is_context(p)]
        if any(p.kind is _Kind.VAR_POSITIONAL for p in others):
            raise TypeError("*args cannot be filled from a JSON object: name the parameters, or use **payload")
        whole = others[0].name if len(others) == 1 and _is_model(others[0]) else None
        try:
            model, names = (others[0].annotation, {}) if whole else _model(function.__name__, others)
            schema = model.model_json_schema(by_alias=True)
        except PydanticUserError as error:
            raise TypeError(f"a parameter has no JSON form: {error.message.splitlines()[0]}") from None
        context = contexts[0] if contexts else None
        positional = tuple(p.name for p in parameters if p.kind is _Kind.POSITIONAL_ONLY)
        if context and context not in positional and any(p.kind is _Kind.VAR_KEYWORD for p in others):
            schema["properties"][context] = False
        return cls(
            schema=json.dumps(schema, separators=(",", ":")),
            model=model,
            whole=whole,
            context=context,
            names=names,
            positional=positional,
        )

    def bind(self, payload: str, context: Callable[[], Context]) -> tuple[list[Any], dict[str, Any]]:
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
        extra: dict[str, Any] = {}
        if self.whole:
            arguments: dict[str, Any] = {self.whole: read}
        else:
            # A positional parameter cannot be left out before one that is given, so its default is said.
            given = read.model_fields_set | {field for field, name in self.names.items() if name in self.positional}
            arguments = {name: getattr(read, field) for field, name in self.names.items() if field in given}
            if read.model_extra:
                # Read again by our own parser: pydantic's turns huge numbers of untyped members into floats.
                exact = jsonread.loads(payload)
                extra = {name: exact[name] for name in read.model_extra}
        if self.context is None:
            return [arguments.pop(name) for name in self.positional], extra | arguments
        given_context = context()
        positional = [given_context if name == self.context else arguments.pop(name) for name in self.positional]
        if self.context not in self.positional:
            arguments[self.context] = given_context
        return positional, extra | arguments


class SchemaChecker:
    """A JSON Schema, compiled once."""

    def __init__(self, schema: str) -> None:
        self._validator = jsonschema_rs.validator_for(json.loads(schema), validate_formats=True, formats=_FORMATS)

    def errors(self, payload: Any) -> list[FieldError]:
        """What in a payload does not fit, each with its pointer (`/payload/...`); the first 50, and of a payload of
        thousands of values the first alone. Integers of any size are compared exactly."""
        if self._validator.is_valid(payload):
            return []
        if _more_values(payload, _EXAMINED):
            try:
                self._validator.validate(payload)
            except jsonschema_rs.ValidationError as wrong:
                return [_field_error(wrong)]
        return [_field_error(wrong) for wrong in islice(self._validator.iter_errors(payload), _ERRORS_SHOWN)]


@lru_cache(maxsize=1_000)
def checker(schema: str) -> SchemaChecker:
    """The compiled form of a schema text."""
    return SchemaChecker(schema)


def _more_values(payload: Any, most: int) -> bool:
    """Whether there are more than that, members of members included."""
    left, count = [payload], 0
    while left:
        value = left.pop()
        count += 1
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        if count + len(left) > most:
            return True
    return False


def _field_error(wrong: jsonschema_rs.ValidationError) -> FieldError:
    pointer = "/payload" + "".join(map(_step, wrong.instance_path))
    match wrong.kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=name):
            return FieldError(pointer + _step(name), wrong.message[:500])
        case jsonschema_rs.ValidationErrorKind.FalseSchema():
            return FieldError(pointer, "is a name that the task keeps for itself: use another")
        case _:
            return FieldError(pointer, wrong.message[:500])


def _step(name: str | int) -> str:
    return "/" + str(name)[:200].replace("~", "~0").replace("/", "~1")


def _reads(kind: Any) -> Callable[[str], bool]:
    """Whether pydantic reads a text as `kind`: what a schema calls a format is refused just where the handler would."""
    adapter = TypeAdapter(kind)

    def reads(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    return reads


_FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date-time": _reads(datetime),
    "date": _reads(date),
    "time": _reads(time),
    "duration": _reads(timedelta),
    "uuid": _reads(UUID),
    "uri": _reads(AnyUrl),
    "regex": _reads(re.Pattern),
    "email": lambda _: True,  # what pydantic takes for one depends on a package that may not be here
}


def _is_context(parameter: inspect.Parameter) -> bool:
    return parameter.annotation is Context or Context in get_args(parameter.annotation)


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
