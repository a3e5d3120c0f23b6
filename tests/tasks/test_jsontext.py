"""Strict JSON: exact or refused, in both directions."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.errors import Invalid
from taskflow.tasks import jsontext

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1,", '{"a"}', '{"a":}', "{'a':1}", "nul", "1 2", '{"a":1,}', '"\n"', "NaN", "-Infinity", "{}x", "+1"],
)
def test_what_is_no_json_is_malformed(text: str) -> None:
    """With where it broke."""
    with pytest.raises(jsontext.Malformed):
        jsontext.loads(text.encode())
    with pytest.raises(jsontext.Malformed):
        jsontext.document(text.encode())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a":1,"a":2}', "twice"),
        ('{"p":{"b":1,"b":2}}', "twice"),
        ('{"a":1e999}', "range of a double"),
        ('{"a":"x\\u0000"}', "/a"),
        ('{"p":{"x\\u0000":1}}', "/p"),
        ('{"p":["\\ud800"]}', "/p/0"),
        ("[" * 65 + "]" * 65, "deeper"),
        ('{"a":' * 65 + "1" + "}" * 65, "deeper"),
        ('{"a":' + "9" * 5_000 + "}", "digits"),
        ("[1]", "object"),
    ],
)
def test_what_cannot_be_kept_is_invalid(text: str, told: str) -> None:
    """With the field that holds it."""
    with pytest.raises(Invalid, match=told):
        jsontext.document(text.encode())


def test_a_million_brackets_are_refused_before_anything_recurses() -> None:
    """As an answer, not as a crash."""
    with pytest.raises(Invalid, match="deeper"):
        jsontext.loads(b"[" * 1_000_000)


def test_not_utf8_is_malformed() -> None:
    """Bytes that are no text."""
    with pytest.raises(jsontext.Malformed, match="UTF-8"):
        jsontext.loads(b'"\xff"')


@given(st.dictionaries(st.text(max_size=5).filter(lambda s: "\0" not in s), JSON, max_size=5))
def test_a_document_reads_as_json_does_and_keeps_its_source(value: dict[str, Any]) -> None:
    """The members' sources, read again, are the members."""
    text = json.dumps(value)
    try:
        read = jsontext.document(text.encode())
    except Invalid:
        assert any("\ud800" <= c <= "\udfff" for c in text.encode().decode("unicode_escape"))
        return
    assert read.value == value
    assert {name: json.loads(source) for name, source in read.source.items()} == value


@given(JSON)
def test_what_is_written_reads_back(value: Any) -> None:
    """Exactly, huge integers too."""
    assert jsontext.loads(jsontext.dumps(value)) == value


def test_numbers_are_kept_as_they_were_written() -> None:
    """Byte for byte in the source of a member."""
    text = '{"payload": {"a":1e2,"b":-0.0,"c":1970670598291982290,"d":0.10}}'
    assert jsontext.text_of_member(text.encode(), "payload") == '{"a":1e2,"b":-0.0,"c":1970670598291982290,"d":0.10}'
    assert jsontext.loads(str(10**400)) == 10**400


@dataclasses.dataclass
class Point:
    """A dataclass."""

    x: int
    at: datetime


def test_common_types_have_a_json_form() -> None:
    """Dataclasses, instants, UUIDs, tuples."""
    value = {"p": Point(1, datetime(2026, 1, 1, tzinfo=UTC)), "u": UUID(int=1), "t": (1, 2)}
    assert json.loads(jsontext.dumps(value)) == {
        "p": {"x": 1, "at": "2026-01-01T00:00:00+00:00"}, "u": str(UUID(int=1)), "t": [1, 2],
    }  # fmt: skip


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, {"a": [math.nan]}, "a\0b", {"a\0": 1}, "\ud800", {1: 2}, CYCLE, object(), b"x", 10**20_000],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_written(value: Any) -> None:
    """Refused, never bent."""
    with pytest.raises(jsontext.Unstorable):
        jsontext.dumps(value)


def test_a_fingerprint_ignores_order_only() -> None:
    """The same members in another order are the same body."""
    assert jsontext.canonical({"a": 1, "b": 2}) == jsontext.canonical({"b": 2, "a": 1})
    assert jsontext.canonical({"a": 1}) != jsontext.canonical({"a": "1"})
