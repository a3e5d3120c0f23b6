"""Strict JSON: what comes in is exact or refused, what goes out is storable everywhere or refused.

Integers of any size stay exact. Duplicate keys, NaN, Infinity, numbers beyond a double, NUL and lone surrogates are
refused in both directions, and so is nesting beyond 64 levels, before anything recurses.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import BaseModel

from taskflow.core.errors import FieldError, Invalid, TaskFlowError
from taskflow.core.limits import JSON_DEPTH

DIGITS: Final = 4_300
_HUGE: Final = 10**DIGITS
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_NEXT: Final = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")
_NEXT_ITEM: Final = re.compile(r"[ \t\n\r]*([],])[ \t\n\r]*")
# Possessive, and content with an end that is missing: otherwise an open string of escaped quotes costs its square.
_STRINGS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(code for code in range(256) if code not in b"[]{}")
_SUSPECT: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Malformed(TaskFlowError):
    """The text is no JSON; the message says where."""


class Unstorable(TaskFlowError):
    """A value cannot become JSON that every part can keep; the message says where and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A JSON object, read: its members, and the exact source text of each."""

    value: dict[str, Any]
    source: Mapping[str, str]


def document(raw: bytes, depth: int = JSON_DEPTH) -> Document:
    """Read a JSON object and keep the source of its members.

    Raises:
        Malformed: the bytes are no JSON object in UTF-8.
        Invalid: it is JSON, but holds what cannot be stored; names the fields.
    """
    text = _text(raw)
    _check_depth(text, depth)
    return _document(text, _member)


def documents(raw: bytes, name: str, depth: int = JSON_DEPTH) -> tuple[Document, list[Document | None]]:
    """Read a JSON object with an array of objects, and keep the source of their members, too.

    Args:
        name: of the member that is the array.

    Returns:
        The whole, and what is in the array: `None` for what is no object.

    Raises:
        Malformed, Invalid: as of `document`.
    """
    items: list[Document | None] = []

    # Each item is looked at for its depth alone, when it is read: the whole has as many brackets as items, and looking
    # through all of it takes longer than reading it. What is too deep for the parser, it refuses itself.
    def member(text: str, begin: int, key: str) -> tuple[Any, int]:
        if key != name or text[begin : begin + 1] != "[":
            value, end = _member(text, begin, key)
            _check_depth(text[begin:end], depth - 1)
            return value, end
        values: list[Any] = []
        position = _skip(text, begin + 1)
        if text[position : position + 1] == "]":
            return values, position + 1
        while True:
            value, found, end = _item(text, position, f"{_pointer(key)}/{len(items)}")
            _check_depth(text[position:end], depth - 2)
            position = end
            values.append(value)
            items.append(found)
            after = _NEXT_ITEM.match(text, position)
            if after is None:
                raise Malformed(f"',' or ']' is missing at character {_skip(text, position)}")
            if after[1] == "]":
                return values, after.end(1)
            position = after.end()

    try:
        return _document(_text(raw), member), items
    except RecursionError:
        raise _deeper_than(depth) from None


def _document(text: str, member: Callable[[str, int, str], tuple[Any, int]]) -> Document:
    start = _skip(text, 0)
    if text[start : start + 1] != "{":
        loads(text)
        raise Invalid([FieldError("", "the body must be a JSON object")])
    try:
        found, end = _object(text, start, member)
    except (json.JSONDecodeError, StopIteration) as error:
        raise _malformed(error) from None
    if _skip(text, end) != len(text):
        raise Malformed(f"there is more text after the document, at character {end}")
    _check_texts(text, found.value)
    return found


def _object(text: str, start: int, member: Callable[[str, int, str], tuple[Any, int]]) -> tuple[Document, int]:
    """An object and where it ends, each member read by `member`."""
    value: dict[str, Any] = {}
    source: dict[str, str] = {}
    position = _skip(text, start + 1)
    if text[position : position + 1] == "}":
        return Document(value, source), position + 1
    while True:
        if text[position : position + 1] != '"':
            raise Malformed(f"a member name in double quotes is missing at character {position}")
        key, position = scanstring(text, position + 1, True)
        colon = _COLON.match(text, position)
        if colon is None:
            raise Malformed(f"':' is missing at character {_skip(text, position)}")
        begin = colon.end()
        read, end = member(text, begin, key)
        if key in value:
            raise Invalid([FieldError(_pointer(key), "this member occurs twice")])
        value[key], source[key] = read, text[begin:end]
        after = _NEXT.match(text, end)
        if after is None:
            raise Malformed(f"',' or '}}' is missing at character {_skip(text, end)}")
        if after[1] == "}":
            return Document(value, source), after.end(1)
        position = after.end()


def _item(text: str, begin: int, pointer: str) -> tuple[Any, Document | None, int]:
    """An element of an array, the document that it is if it is an object, and where it ends."""
    if text[begin : begin + 1] != "{":
        value, end = _scan(text, begin)
        return value, None, int(end)
    try:
        found, end = _object(text, begin, _member)
    except Invalid as error:
        raise Invalid([FieldError(pointer + wrong.pointer, wrong.detail) for wrong in error.errors]) from None
    return found.value, found, end


def _member(text: str, begin: int, name: str) -> tuple[Any, int]:
    """A member's value and where it ends; what is wrong in it is wrong in that member."""
    try:
        value, end = _scan(text, begin)
    except Invalid as error:
        raise Invalid([FieldError(_pointer(name) + wrong.pointer, wrong.detail) for wrong in error.errors]) from None
    return value, int(end)


def loads(raw: bytes | str, depth: int = JSON_DEPTH) -> Any:
    """Read any JSON value.

    Raises:
        Malformed: it is no JSON in UTF-8.
        Invalid: it is JSON, but holds what cannot be stored; names the fields.
    """
    text = _text(raw)
    _check_depth(text, depth)
    try:
        value, end = _scan(text, _skip(text, 0))
    except (json.JSONDecodeError, StopIteration) as error:
        raise _malformed(error) from None
    if _skip(text, end) != len(text):
        raise Malformed(f"there is more text after the document, at character {end}")
    _check_texts(text, value)
    return value


def text_of_member(raw: bytes, *path: str) -> str:
    """The exact source text of a member of a JSON object, or of a member of its member, and so on along `path`.

    Raises:
        KeyError: there is no such member.
        Malformed, Invalid: as of `document`.
    """
    for name in path:
        raw = document(raw).source[name].encode()
    return raw.decode()


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
    if "\\u0000" in text or _too_deep(text, JSON_DEPTH) or ("null" in text and orjson.loads(text) != value):
        return json.dumps(_plain(value, "", ()), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text


def canonical(value: Any) -> bytes:
    """The same bytes for the same JSON value, whatever the order of its members: for fingerprints."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def escaped(text: str) -> str:
    """`text` with NUL and lone surrogates made visible, so that every store keeps it."""
    if "\0" in text:
        text = text.replace("\0", "\\u0000")
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _text(raw: bytes | str) -> str:
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"the text is not UTF-8: byte {error.start} is wrong") from None


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _check_depth(text: str, most: int) -> None:
    if _too_deep(text, most):
        raise _deeper_than(most)


def _deeper_than(most: int) -> Invalid:
    return Invalid([FieldError("", f"the document is nested deeper than {most} levels")])


def _too_deep(text: str, most: int) -> bool:
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


def _malformed(error: json.JSONDecodeError | StopIteration) -> Malformed:
    if isinstance(error, StopIteration):
        return Malformed(f"a value is missing at character {error.value}")
    return Malformed(f"{error.msg} at line {error.lineno} column {error.colno}")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Invalid([FieldError("", f"the member {escaped(twice)[:100]!r} occurs twice in one object")])
    return value


def _int(text: str) -> int:
    if len(text.lstrip("-")) > DIGITS:
        raise Invalid([FieldError("", f"a number has more than {DIGITS} digits")])
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Invalid([FieldError("", f"the number {text[:40]} is beyond the range of a double")])
    return value


def _constant(text: str) -> None:
    raise Malformed(f"{text} is no JSON number")


_scan: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_int, parse_float=_float, parse_constant=_constant
).scan_once  # type: ignore[attr-defined]


def _check_texts(text: str, value: Any) -> None:
    if ("\\u" in text and _SUSPECT.search(text)) or (not text.isascii() and _SURROGATE.search(text)):
        errors = list(_bad_texts(value, ""))
        if errors:
            raise Invalid(errors)


def _bad_texts(value: Any, pointer: str) -> list[FieldError]:
    if isinstance(value, str):
        detail = _fault(value)
        return [FieldError(pointer, detail)] if detail else []
    if isinstance(value, dict):
        found = [FieldError(pointer, f"a member name {fault}") for key in value if (fault := _fault(key))]
        for key, member in value.items():
            found += _bad_texts(member, pointer + _pointer(key))
        return found
    if isinstance(value, list):
        return [error for index, item in enumerate(value) for error in _bad_texts(item, f"{pointer}/{index}")]
    return []


def _fault(text: str) -> str | None:
    if "\0" in text:
        return "holds the character U+0000, which cannot be stored"
    if _SURROGATE.search(text):
        return "holds half of a surrogate pair, which is no character"
    return None


def _pointer(key: str) -> str:
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
        if fault := _fault(value):
            raise Unstorable(f"{where or 'the value'} {fault}")
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
            if fault := _fault(name):
                raise Unstorable(f"a key of {where or 'the value'} {fault}")
            if name in plain:
                raise Unstorable(f"{where or 'the value'} has two keys that are the text {name[:100]!r}")
            plain[name] = _plain(member, where + _pointer(name), parents)
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
