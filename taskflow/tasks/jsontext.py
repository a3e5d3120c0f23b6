"""Strict JSON, written: storable everywhere, or refused; see `jsonread` for the way in.

Integers of any size stay exact. NaN, Infinity, NUL, lone surrogates and nesting beyond 64 levels are refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import BaseModel

from taskflow.core.errors import TaskFlowError
from taskflow.core.limits import JSON_DEPTH

DIGITS: Final = 4_300
_HUGE: Final = 10**DIGITS
# Possessive, and content with an end that is missing: otherwise an open string of escaped quotes costs its square.
_STRINGS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(code for code in range(256) if code not in b"[]{}")
SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Unstorable(TaskFlowError):
    """A value cannot become JSON that every part can keep; the message says where and why."""


def dumps(value: Any) -> str:
    """JSON text of a value; pydantic models, dataclasses, enums, UUIDs and instants become what they stand for.

    Raises:
        Unstorable: the value, or something in it, cannot be kept; says where.
    """
    try:
        text = orjson.dumps(value, default=_default).decode()
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_plain(value, "", ()), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # orjson lets NUL and depth pass, and writes NaN as null: then it does not read back as it was.
    if "\\u0000" in text or too_deep(text, JSON_DEPTH) or ("null" in text and orjson.loads(text) != value):
        return json.dumps(_plain(value, "", ()), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text


def canonical(value: Any) -> bytes:
    """The same bytes for the same JSON value, whatever the order of its members: for fingerprints."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def escaped(text: str) -> str:
    """`text` with NUL and lone surrogates made visible, so that every store keeps it."""
    if "\0" in text:
        text = text.replace("\0", "\\u0000")
    return SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def too_deep(text: str, most: int) -> bool:
    """Whether `most` rounds of taking out the innermost brackets leave a pair, or more than `most` that nobody closes.

    So the parser never goes deeper than twice `most`, whatever the text. In C all the way: a walk over the tokens of a
    large body took longer than reading it.
    """
    if text.count("[") + text.count("{") <= most:
        return False
    left = _STRINGS.sub("", text).encode("utf-8", "replace").translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(most):
        if b"[]" not in left:
            break
        left = left.replace(b"[]", b"")
    return b"[]" in left or left.count(b"[") > most


def fault(text: str) -> str | None:
    """What keeps a text from being stored, if anything does."""
    if "\0" in text:
        return "holds the character U+0000, which cannot be stored"
    if SURROGATE.search(text):
        return "holds half of a surrogate pair, which is no character"
    return None


def pointer(key: str) -> str:
    """The step of a JSON pointer that leads to a member."""
    return "/" + escaped(key).replace("~", "~0").replace("/", "~1")


def _default(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _plain(value: Any, where: str, parents: tuple[int, ...]) -> Any:
    """The value in JSON's own types, checked; `where` is its pointer, `parents` the ids of what holds it."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, Enum):
        return _plain(value.value, where, parents)
    if isinstance(value, str):
        if wrong := fault(value):
            raise Unstorable(f"{where or 'the value'} {wrong}")
        return str.__str__(value)
    if isinstance(value, int):
        if not -_HUGE < value < _HUGE:
            raise Unstorable(f"{where or 'the value'} is an integer of more than {DIGITS} digits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unstorable(f"{where or 'the value'} is {value}, which is no JSON number")
        return float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if id(value) in parents:
        raise Unstorable(f"{where or 'the value'} contains itself")
    if len(parents) >= JSON_DEPTH:
        raise Unstorable(f"the value is nested deeper than {JSON_DEPTH} levels")
    return _plain_container(value, where, (*parents, id(value)))


def _plain_container(value: Any, where: str, parents: tuple[int, ...]) -> Any:
    if isinstance(value, Mapping):
        plain = {}
        for key, member in value.items():
            if not isinstance(key, str):
                raise Unstorable(f"{where or 'the value'} has a key of type {type(key).__name__}: keys must be texts")
            name = str.__str__(key)
            if wrong := fault(name):
                raise Unstorable(f"a key of {where or 'the value'} {wrong}")
            if name in plain:
                raise Unstorable(f"{where or 'the value'} has two keys that are the text {name[:100]!r}")
            plain[name] = _plain(member, where + pointer(name), parents)
        return plain
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}/{index}", parents) for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return _plain({name: getattr(value, name) for name in names}, where, parents)
    try:
        if isinstance(value, BaseModel):
            _check_finite(value, where)
        plain = _default(value)
    except (TypeError, ValueError) as error:
        raise Unstorable(f"{where or 'the value'}: {error}") from None
    return _plain(plain, where, parents)


def _check_finite(model: BaseModel, where: str) -> None:
    """Pydantic writes NaN as null in members of no declared type, so it is looked for before."""
    dumped = model.model_dump(warnings=False)
    stack: list[Any] = [dumped]
    # Members of no declared type are the model's own: they may hold themselves, or one another many times.
    seen: set[int] = set()
    while stack:
        value = stack.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise Unstorable(f"{where or 'the value'} holds {value}, which is no JSON number")
        if isinstance(value, Mapping | list | tuple | set | frozenset) and id(value) not in seen:
            seen.add(id(value))
            stack.extend(value.values() if isinstance(value, Mapping) else value)
