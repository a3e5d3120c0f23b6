"""Strict JSON: exact or refused, in both directions."""

from __future__ import annotations

import dataclasses
import json
import math
import time as clock
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from taskflow.core.errors import Invalid
from taskflow.tasks import jsonread, jsontext

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
    with pytest.raises(jsonread.Malformed):
        jsonread.loads(text.encode())
    with pytest.raises(jsonread.Malformed):
        jsonread.document(text.encode())


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
        jsonread.document(text.encode())


def test_a_million_brackets_are_refused_before_anything_recurses() -> None:
    """As an answer, not as a crash."""
    with pytest.raises(Invalid, match="deeper"):
        jsonread.loads(b"[" * 1_000_000)


@pytest.mark.parametrize("inside", ['\\"', "\\\\", "[", "{", "]", '\\"[', "x"])
def test_a_hostile_megabyte_costs_no_more_than_its_length(inside: str) -> None:
    """Strings that never end, brackets in strings: the depth is found in one pass."""
    text = '{"a":[' + "[]," * 70 + '"' + inside * (1_000_000 // len(inside))
    started = clock.monotonic()
    with pytest.raises((jsonread.Malformed, Invalid)):
        jsonread.document(text.encode())
    assert clock.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("[" * 64 + "]" * 64, True),
        ('{"a":' * 64 + "1" + "}" * 64, True),
        ("[" + ",".join(["[{}]"] * 1_000) + "]", True),
        ('["' + "[" * 1_000 + '"]', True),
        ('["\\"' + "[" * 1_000 + '"]', True),
        ("[" * 65 + "]" * 65, False),
        ('["]",' * 65 + "1" + ',"["]' * 65, False),
        ("[[]," * 65 + "1" + "]" * 65, False),
        ("[" * 33 + '{"a":' * 32 + "1" + "}" * 32 + "]" * 33, False),
    ],
    ids=range(9),
)
def test_depth_counts_brackets_outside_of_texts(text: str, fits: bool) -> None:
    """64 levels of both kinds together, however many brackets there are."""
    if fits:
        assert jsonread.loads(text) == json.loads(text)
    else:
        with pytest.raises(Invalid, match="deeper"):
            jsonread.loads(text)


@given(st.text('[]{}",:1\\a ', max_size=400) | st.text("[]{}", min_size=60, max_size=400))
def test_no_text_is_read_deeper_than_the_limit(text: str) -> None:
    """Whatever a parser would make of it, an answer or a refusal comes out."""
    try:
        value = jsonread.loads(text)
    except (jsonread.Malformed, Invalid):
        return
    assert value == json.loads(text)
    assert depth(value) <= 64


def depth(value: Any) -> int:
    """Levels of a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def test_not_utf8_is_malformed() -> None:
    """Bytes that are no text."""
    with pytest.raises(jsonread.Malformed, match="UTF-8"):
        jsonread.loads(b'"\xff"')


@given(st.dictionaries(st.text(max_size=5).filter(lambda s: "\0" not in s), JSON, max_size=5))
def test_a_document_reads_as_json_does_and_keeps_its_source(value: dict[str, Any]) -> None:
    """The members' sources, read again, are the members."""
    text = json.dumps(value)
    try:
        read = jsonread.document(text.encode())
    except Invalid:
        assert any("\ud800" <= c <= "\udfff" for c in text.encode().decode("unicode_escape"))
        return
    assert read.value == value
    assert {name: json.loads(source) for name, source in read.source.items()} == value


@given(JSON)
def test_what_is_written_reads_back(value: Any) -> None:
    """Exactly, huge integers too."""
    assert jsonread.loads(jsontext.dumps(value)) == value


def test_numbers_are_kept_as_they_were_written() -> None:
    """Byte for byte in the source of a member."""
    text = '{"payload": {"a":1e2,"b":-0.0,"c":1970670598291982290,"d":0.10}}'
    assert jsonread.text_of_member(text.encode(), "payload") == '{"a":1e2,"b":-0.0,"c":1970670598291982290,"d":0.10}'
    assert jsonread.text_of_member(b'{"jobs": {"a": { "b":1E2 }}}', "jobs", "a", "b") == "1E2"
    assert jsonread.loads(str(10**400)) == 10**400
    with pytest.raises(KeyError):
        jsonread.text_of_member(b"{}", "payload")


@pytest.mark.parametrize("number", [10**4_299, 10**4_300 - 1, -(10**4_300) + 1, 2**64, -(2**63) - 1])
def test_the_largest_numbers_go_both_ways(number: int) -> None:
    """What can be read can be written: 4,300 digits, with or without a sign."""
    assert jsonread.loads(jsontext.dumps({"a": [number]})) == {"a": [number]}
    with pytest.raises(jsontext.Unstorable, match="digits"):
        jsontext.dumps({"a": 10**4_300})


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


class Colour(str, Enum):  # noqa: UP042 - the older kind, whose str() is not its value
    """A text of its own kind."""

    RED = "red"


class Loner(str):
    """A text that equals no other."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class Measure(BaseModel):
    """A model with an open member."""

    value: float
    more: Any = None


@dataclasses.dataclass
class Counted:
    """A dataclass that has more than its fields."""

    total: ClassVar[int] = 9
    x: int
    _hidden: int = 0


HUGE = 10**30


@pytest.mark.parametrize("beside", [0, HUGE, None], ids=["fast", "slow", "null"])
def test_both_ways_of_writing_agree(beside: Any) -> None:
    """The fast one, and the one for what orjson cannot do."""
    value = {
        Colour.RED: Colour.RED, "c": Counted(1), "m": Measure(value=1.5, more={"a": [None]}), "d": Decimal("1.10"),
        "s": {2, 1}, "f": frozenset(["a"]), "t": (1, (2,)), "day": date(2026, 1, 2), "at": time(1, 2, 3), "b": beside,
    }  # fmt: skip
    assert json.loads(jsontext.dumps(value)) == {
        "red": "red", "c": {"x": 1}, "m": {"value": 1.5, "more": {"a": [None]}}, "d": "1.10",
        "s": [1, 2], "f": ["a"], "t": [1, [2]], "day": "2026-01-02", "at": "01:02:03", "b": beside,
    }  # fmt: skip


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


def nested(levels: int) -> Any:
    """A list in a list, so many times."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_what_is_deep_can_be_written_as_far_as_it_can_be_read() -> None:
    """64 levels."""
    assert jsonread.loads(jsontext.dumps(nested(64))) == nested(64)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        {"a": [math.nan]},
        "a\0b",
        {"a\0": 1},
        "\ud800",
        {1: 2},
        CYCLE,
        object(),
        b"x",
        10**20_000,
        Measure(value=math.nan),
        {"m": [Measure(value=1, more={"q": math.inf})]},
        [None, math.nan],
        {1, "a"},
        {"a": {(1,): 2}},
        nested(65),
        {"a\ud800": 1},
        Measure(value=1, more=CYCLE),
        {Loner("a"): 1, "a": 2},
    ],
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


@given(st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3) | JSON, max_size=4), JSON)
def test_documents_in_an_array_are_read_as_alone(values: list[Any], beside: Any) -> None:
    """With the source of their members; what is no object is there, too, and is none."""
    text = json.dumps({"beside": beside, "items": values})
    try:
        whole = jsonread.document(text.encode(), 70)
    except Invalid:
        with pytest.raises(Invalid):
            jsonread.documents(text.encode(), "items", 70)
        return
    read, items = jsonread.documents(text.encode(), "items", 70)
    assert read == whole
    assert items == [
        jsonread.document(json.dumps(value).encode()) if isinstance(value, dict) else None for value in values
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"items":[{"a":1},{"a":1,"a":2}]}', "/items/1/a"),
        ('{"items":[{},{"a":"\\u0000"}]}', "/items/1/a"),
        ('{"items":[{"a":' + "[" * 68 + "]" * 68 + "}]}", "deeper"),
        ('{"items":[],"b":' + "[" * 70 + "]" * 70 + "}", "deeper"),
        ('{"items":[' + "[" * 5_000_000, "deeper"),
        ('{"items":' + '{"a":' * 1_000_000, "deeper"),
        ('{"items":[{} {}]}', "',' or ']' is missing at character 13"),
        ('{"items":[{},]}', "a value is missing"),
        ('{"items":[{}', "',' or ']' is missing"),
        ('{"items":[]} 1', "more text after"),
    ],
    ids=range(10),
)
def test_what_is_wrong_with_documents_in_an_array_is_told(text: str, told: str) -> None:
    """Before anything recurses, and where it is."""
    started = clock.monotonic()
    with pytest.raises((jsonread.Malformed, Invalid), match=told):
        jsonread.documents(text.encode(), "items", 70)
    assert clock.monotonic() - started < 5
