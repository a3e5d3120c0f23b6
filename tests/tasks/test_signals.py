"""Verdicts of a handler: their waits are read and bounded where they are raised."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow import Fail, Retry, Snooze, task
from taskflow.core.job import Outcome
from taskflow.core.limits import HORIZON_SECONDS
from taskflow.tasks.signals import Signal
from taskflow.testing import run


@pytest.mark.parametrize(("after", "wait"), [(0, 0), (30, 30), ("1h30m", 5_400), (HORIZON_SECONDS, HORIZON_SECONDS)])
def test_a_wait_is_seconds_or_a_duration(after: float | str, wait: float) -> None:
    """5 years at most, as for every instant ahead."""
    assert (Retry(after).after, Snooze(after).after) == (wait, wait)


@pytest.mark.parametrize(
    "after", [-1, "soon", None, True, float("nan"), float("inf"), HORIZON_SECONDS + 1, 1e12, 1e300, "9" * 400 + "h"]
)
@pytest.mark.parametrize("signal", [Retry, Snooze])
def test_a_wait_that_no_store_could_keep_is_refused(signal: Any, after: Any) -> None:
    """In the handler, by a short message: as an instant past the year 9999 it would make the job unreadable."""
    with pytest.raises(ValueError, match=signal.__name__) as caught:
        signal(after)
    assert len(str(caught.value)) < 300


def test_a_refused_wait_fails_the_attempt() -> None:
    """Like any other mistake of a handler."""

    @task("signals.wild")
    def wild() -> None:
        raise Snooze(1e12)

    done = run(wild)
    assert done.error is not None
    assert (done.outcome, done.final, done.error.type) == (Outcome.FAILED, False, "ValueError")


def test_verdicts_are_exceptions_with_a_text() -> None:
    """So that a handler's own `except Exception` can be seen to swallow them."""
    assert [str(signal) for signal in (Retry(1, "busy"), Snooze("1m"), Fail("no contract"))] == [
        "busy", "snoozed for 1m", "no contract",
    ]  # fmt: skip
    assert all(issubclass(kind, Signal) and issubclass(kind, Exception) for kind in (Retry, Snooze, Fail))
