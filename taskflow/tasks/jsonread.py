"""Strict JSON, read: exact, or refused with every reason; see `jsontext` for the way out.

Integers of any size stay exact. Duplicate keys, NaN, Infinity, numbers beyond a double, NUL and lone surrogates are refused,
and so is nesting beyond 64 levels: before anything recurses, but in a batch, where the parser's own limit comes first.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Final

from taskflow.core.errors import FieldError, Invalid, TaskFlowError
from taskflow.core.limits import JSON_DEPTH
from taskflow.tasks import jsontext

_SPACE: Final = re.compile(r"[ \t\n\r]*")
_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_NEXT: Final = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")
_NEXT_ITEM: Final = re.compile(r"[ \t\n\r]*([],])[ \t\n\r]*")
_SUSPECT: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class Malformed(TaskFlowError):
    """The text is no JSON; the message says where."""


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
            value, found, end = _item(text, position, f"{jsontext.pointer(key)}/{len(items)}")
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
            raise Invalid([FieldError(jsontext.pointer(key), "this member occurs twice")])
        value[key], source[key] = read, text[begin:end]
        after = _NEXT.match(text, end)
        if after is None:
            raise Malformed(f"',' or '}}' is missing at character {_skip(text, end)}")
        if after[1] == "}":
            return Document(value, source), after.end(1)
        position = after.end()


def _item(text: str, begin: int, pointer: str) -> tuple[Any, Document | None, int]:
    """An element of an array, the document that it is if it is an object, and where it ends."""
    try:
        if text[begin : begin + 1] != "{":
            value, end = _scan(text, begin)
            return value, None, int(end)
        found, end = _object(text, begin, _member)
    except Invalid as error:
        raise Invalid([FieldError(pointer + wrong.pointer, wrong.detail) for wrong in error.errors]) from None
    return found.value, found, end


def _member(text: str, begin: int, name: str) -> tuple[Any, int]:
    """A member's value and where it ends; what is wrong in it is wrong in that member."""
    try:
        value, end = _scan(text, begin)
    except Invalid as error:
        raise Invalid(
            [FieldError(jsontext.pointer(name) + wrong.pointer, wrong.detail) for wrong in error.errors]
        ) from None
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
    if jsontext.too_deep(text, most):
        raise _deeper_than(most)


def _deeper_than(most: int) -> Invalid:
    return Invalid([FieldError("", f"the document is nested deeper than {most} levels")])


def _malformed(error: json.JSONDecodeError | StopIteration) -> Malformed:
    if isinstance(error, StopIteration):
        return Malformed(f"a value is missing at character {error.value}")
    return Malformed(f"{error.msg} at line {error.lineno} column {error.colno}")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Invalid([FieldError("", f"the member {jsontext.escaped(twice)[:100]!r} occurs twice in one object")])
    return value


def _int(text: str) -> int:
    if len(text.lstrip("-")) > jsontext.DIGITS:
        raise Invalid([FieldError("", f"a number has more than {jsontext.DIGITS} digits")])
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
    if ("\\u" in text and _SUSPECT.search(text)) or (not text.isascii() and jsontext.SURROGATE.search(text)):
        errors = list(_bad_texts(value, ""))
        if errors:
            raise Invalid(errors)


def _bad_texts(value: Any, pointer: str) -> list[FieldError]:
    if isinstance(value, str):
        detail = jsontext.fault(value)
        return [FieldError(pointer, detail)] if detail else []
    if isinstance(value, dict):
        found = [FieldError(pointer, f"a member name {fault}") for key in value if (fault := jsontext.fault(key))]
        for key, member in value.items():
            found += _bad_texts(member, pointer + jsontext.pointer(key))
        return found
    if isinstance(value, list):
        return [error for index, item in enumerate(value) for error in _bad_texts(item, f"{pointer}/{index}")]
    return []
