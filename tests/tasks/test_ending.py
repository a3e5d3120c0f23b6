"""From what a handler did to how its run ended: storable whatever it was."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow import Fail, Retry, RetryPolicy, Snooze, task
from taskflow.core.job import ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending
from taskflow.core.limits import ERROR_BYTES, RESULT_BYTES
from taskflow.tasks.ending import ending_of_error, ending_of_value, error_info, from_wire, to_wire

CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@task("ending.any", retry=RetryPolicy(give_up_on=(LookupError,)))
def handler() -> None:
    """Only its policy is looked at."""


def size(error: ErrorInfo) -> int:
    """Bytes of an error as it is kept."""
    return sum(len(text.encode()) for text in (error.type, error.message, error.traceback or ""))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("a\0b", "U+0000"),
        ({"a": ["\ud800"]}, "/a/0"),
        ([float("nan")], "/0"),
        (CYCLE, "contains itself"),
        (object(), "object"),
        ({(1,) * 50_000: 1}, "tuple"),
        ({"k" * 100_000: object()}, "object"),
        ("x" * (RESULT_BYTES - 1), "artifact"),
        ("é" * (RESULT_BYTES // 2), "artifact"),
    ],
    ids=["nul", "surrogate", "nan", "cyclic", "unserialisable", "key", "long path", "huge", "huge in bytes"],
)
def test_a_value_that_cannot_be_kept_fails_for_good(value: Any, told: str) -> None:
    """Once, saying why: running again would not help."""
    ending = ending_of_value(value)
    assert ending.error is not None
    assert (ending.outcome, ending.final, ending.result) == (Outcome.FAILED, True, None)
    assert (ending.error.type, size(ending.error) <= ERROR_BYTES) == ("UnstorableResult", True)
    assert told in ending.error.message or told == "object"


def test_the_largest_result_is_kept() -> None:
    """1 MiB of JSON, quotes included."""
    ending = ending_of_value("x" * (RESULT_BYTES - 2))
    assert (ending.outcome, len(ending.result or "")) == (Outcome.SUCCEEDED, RESULT_BYTES)


class Hostile(Exception):
    """Its text cannot be read."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Leaves(Exception):
    """Whoever reads its text is asked to leave."""

    def __init__(self, how: type[BaseException]) -> None:
        self.how = how

    def __str__(self) -> str:
        raise self.how("gone")

    __repr__ = __str__


class Nameless(type):
    """Not even the name of its classes can be read."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit(3)


class Disguised(Exception, metaclass=Nameless):
    """Nothing of it can be looked at."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise SystemExit(3)


LEAVING = (SystemExit, KeyboardInterrupt, GeneratorExit, BaseException)


@pytest.mark.parametrize("how", LEAVING)
def test_reading_an_error_ends_nobody_but_its_run(how: type[BaseException]) -> None:
    """The kind that no `except Exception` stops: it would end a thread, or a loop with all that runs there."""
    ending = ending_of_error(handler, Leaves(how))
    assert (ending.outcome, ending.final) == (Outcome.FAILED, False)
    assert ending.error is not None
    assert (ending.error.type, how.__name__ in ending.error.message) == ("Leaves", True)


def test_an_exception_of_which_nothing_can_be_looked_at_is_a_failure() -> None:
    """Its class, its name and its text raise."""
    ending = ending_of_error(handler, Disguised())
    assert (ending.outcome, ending.error and ending.error.type) == (Outcome.FAILED, "Unreadable")


@pytest.mark.parametrize("how", LEAVING)
def test_reading_a_value_ends_nobody_but_its_run(how: type[BaseException]) -> None:
    """Nor does the text of what that raised."""

    class Evil(date):
        def isoformat(self) -> str:
            raise Leaves(how)

    class Worse(date):
        def isoformat(self) -> str:
            raise how("gone")

    for value in (Evil(2026, 1, 1), Worse(2026, 1, 1)):
        ending = ending_of_value(value)
        assert (ending.outcome, ending.error and ending.error.type) == (Outcome.FAILED, "UnstorableResult")


def chained() -> BaseException:
    """A long chain of causes."""
    error: BaseException = ValueError("x" * 5_000)
    for _ in range(50):
        outer = ValueError("y" * 5_000)
        outer.__cause__ = error
        error = outer
    return error


@pytest.mark.parametrize(
    "error",
    [
        Hostile(),
        ValueError("\0" * 100_000),
        ValueError("\ud800" * 100_000),
        ValueError("é" * 100_000),
        ExceptionGroup("many", [ValueError("z" * 2_000) for _ in range(100)]),
        chained(),
        type("N" * 10_000, (Exception,), {})("long name"),
    ],
    ids=["hostile", "nul", "surrogates", "wide", "group", "chain", "name"],
)
def test_an_error_can_always_be_kept(error: BaseException) -> None:
    """16 KiB in all, counted after escaping; nothing in it that a store would refuse."""
    try:
        raise error
    except BaseException as caught:
        info = error_info(caught)
    assert size(info) <= ERROR_BYTES
    assert not any("\0" in text or any("\ud800" <= c <= "\udfff" for c in text)
                   for text in (info.type, info.message, info.traceback or ""))  # fmt: skip
    assert info.message


def test_a_traceback_keeps_its_end() -> None:
    """Where the handler's own line and the message stand."""
    try:
        raise ValueError("x" * 100_000 + "the end")
    except ValueError as caught:
        info = error_info(caught)
    assert (info.traceback or "").startswith("…")
    assert (info.traceback or "").endswith("the end\n")
    assert info.message == "x" * 8_000


@pytest.mark.parametrize(
    ("error", "outcome", "after", "final", "kind"),
    [
        (Snooze(60), Outcome.SNOOZED, 60, False, None),
        (Retry(30, "busy"), Outcome.FAILED, 30, False, "Retry"),
        (Fail("no contract"), Outcome.FAILED, None, True, "Fail"),
        (KeyError("k"), Outcome.FAILED, None, True, "KeyError"),
        (ValueError("v"), Outcome.FAILED, None, False, "ValueError"),
        (SystemExit(3), Outcome.FAILED, None, False, "SystemExit"),
        (MemoryError(), Outcome.FAILED, None, False, "MemoryError"),
    ],
)
def test_exceptions(error: BaseException, outcome: Outcome, after: float | None, final: bool, kind: str | None) -> None:
    """Signals say it themselves; `give_up_on` holds for subclasses; everything else may be tried again."""
    ending = ending_of_error(handler, error)
    assert (ending.outcome, ending.after, ending.final) == (outcome, after, final)
    assert (ending.error.type if ending.error else None) == kind


@given(
    st.builds(
        Ending,
        outcome=st.sampled_from(Outcome),
        result=st.none() | st.text(),
        error=st.none() | st.builds(ErrorInfo, st.text(), st.text(), st.none() | st.text()),
        after=st.none() | st.floats(0, 1e9),
        final=st.booleans(),
    )
)
def test_an_ending_crosses_the_pipe_unchanged(ending: Ending) -> None:
    """From a child process, as JSON."""
    assert from_wire(json.loads(json.dumps(to_wire(ending)))) == ending
