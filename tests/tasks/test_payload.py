"""Payloads: what the schema of a handler accepts is what the handler gets, and nothing else is accepted."""

from __future__ import annotations

import re  # noqa: F401 - an annotation names something in it that is not there
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, Field

from taskflow import Context, task
from taskflow.core.errors import Invalid
from taskflow.tasks import jsontext
from taskflow.tasks.payload import Signature, checker
from taskflow.testing import run


class Colour(Enum):
    """An enum."""

    RED = "red"


class Item(BaseModel):
    """Nested."""

    sku: str
    quantity: Annotated[int, Field(ge=1)] = 1


class Odd(BaseModel):
    """A member whose name needs escaping in a pointer."""

    value: int = Field(alias="a/b~c")


def wrong(function: Callable[..., Any], payload: Any) -> list[str]:
    """Pointers of what does not fit."""
    return sorted(error.pointer for error in checker(Signature.of(function).schema).errors(payload))


def mixed(
    text: str, count: int, ratio: float, yes: bool, colour: Colour, items: list[Item], maybe: int | None = None
) -> None:
    """Every usual kind."""


GOOD: dict[str, Any] = {
    "text": "x", "count": 1, "ratio": 0.5, "yes": True, "colour": "red", "items": [{"sku": "a"}], "maybe": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({}, []),
        ({"ratio": 1}, []),
        ({"count": 10**400}, []),
        ({"count": -(10**30)}, []),
        ({"text": 7}, ["/payload/text"]),
        ({"count": "7"}, ["/payload/count"]),
        ({"count": 1.5}, ["/payload/count"]),
        ({"count": True}, ["/payload/count"]),
        ({"ratio": "1"}, ["/payload/ratio"]),
        ({"ratio": True}, ["/payload/ratio"]),
        ({"yes": 1}, ["/payload/yes"]),
        ({"yes": "true"}, ["/payload/yes"]),
        ({"colour": "blue"}, ["/payload/colour"]),
        ({"maybe": "1"}, ["/payload/maybe"]),
        ({"items": [{"sku": "a"}, {"sku": 1, "quantity": 0}]}, ["/payload/items/1/quantity", "/payload/items/1/sku"]),
        ({"items": {}}, ["/payload/items"]),
        ({"more": 1}, ["/payload"]),
    ],
)
def test_nothing_is_coerced(change: dict[str, Any], pointers: list[str]) -> None:
    """A whole number is a number; nothing else stands for something else."""
    assert wrong(mixed, GOOD | change) == pointers


def test_a_missing_or_unknown_member_is_named() -> None:
    """In the pointer where it should be, in the text where it should not."""

    def slashed(**payload: Any) -> None: ...

    assert wrong(mixed, {}) == [f"/payload/{name}" for name in sorted(GOOD) if name != "maybe"]
    (unknown,) = checker(Signature.of(mixed).schema).errors(GOOD | {"typo": 1})
    assert "'typo'" in unknown.detail
    assert wrong(slashed, {"a/b~c": 1}) == []

    def takes(odd: Odd) -> None: ...

    assert wrong(takes, {}) == ["/payload/a~1b~0c"]


def test_errors_are_few_and_short() -> None:
    """However much is wrong."""

    def counts(numbers: list[int]) -> None: ...

    errors = checker(Signature.of(counts).schema).errors({"numbers": ["x" * 10_000] * 1_000})
    assert (len(errors), max(len(error.detail) for error in errors) <= 500) == (50, True)


def test_of_a_payload_with_very_many_values_the_first_error_is_told() -> None:
    """To look for all of them would keep others waiting for seconds."""

    def counts(numbers: list[int]) -> None: ...

    check = checker(Signature.of(counts).schema)
    assert check.errors({"numbers": list(range(300_000))}) == []
    (error,) = check.errors({"numbers": ["x"] * 300_000})
    assert error.pointer == "/payload/numbers/0"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (datetime, ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01 00:00:00.5+01:00"], ["hello", "2026-13-01T00:00:00Z"]),
        (date, ["2026-02-28"], ["2026-02-30", "x"]),
        (time, ["12:00", "12:00:00.5"], ["25:00", ""]),
        (timedelta, ["P1D", "PT1H30M"], ["soon"]),
        (UUID, ["01a211c0-ff44-7673-9421-8a399703f9cd"], ["01a211c0"]),
        (AnyUrl, ["https://example.com/ü?q=1"], ["no url"]),
    ],
)  # fmt: skip
def test_a_text_in_a_format_is_refused_just_where_the_handler_could_not_read_it(
    kind: Any, good: list[str], bad: list[str]
) -> None:
    """At submit, not when it runs."""

    def takes(value: Any) -> None: ...

    takes.__annotations__["value"] = kind
    signature = Signature.of(takes)
    for text in good:
        assert wrong(takes, {"value": text}) == []
        _, arguments = signature.bind(jsontext.dumps({"value": text}), lambda: None)  # type: ignore[arg-type, return-value]
        assert not isinstance(arguments["value"], str)
    for text in bad:
        assert wrong(takes, {"value": text}) == ["/payload/value"]
        with pytest.raises(Invalid, match="/payload/value"):
            signature.bind(jsontext.dumps({"value": text}), lambda: None)  # type: ignore[arg-type, return-value]


def test_bounds_hold_beyond_64_bits() -> None:
    """Integers are compared as they are."""

    def bounded(value: Annotated[int, Field(le=2**70)]) -> None: ...

    assert wrong(bounded, {"value": 2**70}) == []
    assert wrong(bounded, {"value": 2**70 + 1}) == ["/payload/value"]


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
        st.integers() | st.lists(st.integers(-(10**40), 10**40)) | st.booleans() | st.none(),
        max_size=6,
    )
)
def test_an_open_payload_arrives_as_it_was_sent(payload: dict[str, Any]) -> None:
    """Whatever its members are called: the context, being positional-only, takes no name away."""

    @task("payload.open")
    def takes(ctx: Context, /, **rest: Any) -> dict[str, Any]:
        return rest

    for name in ("ctx", "rest", "self", "model_config", "field0", "__class__"):
        payload.setdefault(name, 1)
    assert run(takes, payload).result == payload


def test_a_context_that_has_a_name_keeps_it() -> None:
    """A member of that name is refused instead of being lost."""

    @task("payload.named")
    def takes(ctx: Context, first: int = 1, **rest: Any) -> list[Any]:
        return [first, rest]

    assert run(takes, {"first": 2, "a": 1}).result == [2, {"a": 1}]
    with pytest.raises(Invalid, match="/payload/ctx"):
        run(takes, {"ctx": 1})


def test_the_context_is_found_by_annotation() -> None:
    """Any name, any place, alone or in a union; never two."""

    @task("payload.last")
    def last(first: int, *, run_context: Context) -> list[int]:
        return [first, run_context.attempt]

    @task("payload.optional")
    def optional(ctx: Context | None = None, first: int = 1) -> bool:
        return ctx is not None

    def two(a: Context, b: Context) -> None: ...

    assert run(last, {"first": 5}, attempt=2).result == [5, 2]
    assert run(optional).result is True
    with pytest.raises(TypeError, match="more than one"):
        Signature.of(two)


def test_positional_only_parameters_keep_their_places() -> None:
    """Also where one before is left out."""

    @task("payload.positional")
    def takes(a: int = 1, b: int = 2, /, c: int = 3) -> list[int]:
        return [a, b, c]

    assert run(takes).result == [1, 2, 3]
    assert run(takes, {"b": 9}).result == [1, 9, 3]
    assert run(takes, {"a": 7, "c": 8}).result == [7, 2, 8]


def test_one_model_takes_the_whole_payload_and_two_do_not() -> None:
    """Also beside a context; a model with a default, or beside another parameter, is a member."""

    @task("payload.whole")
    def whole(ctx: Context, item: Item) -> str:
        return f"{item.sku} x{item.quantity}"

    @task("payload.member")
    def member(item: Item, note: str = "") -> str:
        return item.sku + note

    assert run(whole, {"sku": "a", "quantity": 3}).result == "a x3"
    assert run(member, {"item": {"sku": "a"}, "note": "!"}).result == "a!"
    with pytest.raises(Invalid, match="/payload/sku"):
        run(whole, {"item": {"sku": "a"}})


def test_huge_numbers_reach_the_handler_exactly() -> None:
    """In typed, untyped and open members."""

    @task("payload.huge")
    def takes(number: int, data: dict[str, Any], anything: Any, **rest: Any) -> list[Any]:
        return [number, data, anything, rest]

    huge = 10**60 + 1
    assert run(takes, {"number": huge, "data": {"x": [huge]}, "anything": huge, "more": huge}).result == [
        huge, {"x": [huge]}, huge, {"more": huge},
    ]  # fmt: skip


class Opaque:
    """Nothing that JSON could be."""


@pytest.mark.parametrize(
    ("annotation", "told"), [(Opaque, "Opaque"), ("Missing", "Missing"), ("re.Nothing", "Nothing"), ("a b", "syntax")]
)
def test_what_json_cannot_fill_is_refused(annotation: Any, told: str) -> None:
    """By name."""

    def takes(value: Any) -> None: ...

    takes.__annotations__["value"] = annotation
    with pytest.raises(TypeError, match=told):
        Signature.of(takes)
