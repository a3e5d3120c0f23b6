"""What an ending means for its job: the table, and the rules that hold for every ending."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.job import Claim, ErrorInfo, Lane, Outcome, State
from taskflow.core.lifecycle import TRANSITIONS, Ending, decide
from taskflow.core.limits import HORIZON_SECONDS, INTERRUPTIONS_MAX, SNOOZES_MAX
from taskflow.core.retry import RetryPolicy

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CLAIM = Claim(
    id="j",
    tenant="default",
    task="t",
    queue="default",
    priority=5,
    payload="{}",
    epoch=3,
    worker="w",
    attempt=1,
    tries=1,
    max_attempts=3,
    timeout=60,
    run=1,
    crashes=0,
    interruptions=0,
    snoozes=0,
    tags="[]",
    metadata="{}",
    created_at=T0,
    started_at=T0,
)
ERROR = ErrorInfo("ValueError", "no")


@pytest.mark.parametrize(
    ("claim", "ending", "state", "charged", "reason"),
    [
        ({}, Ending(outcome=Outcome.SUCCEEDED, result="1"), State.SUCCEEDED, True, None),
        ({}, Ending(outcome=Outcome.FAILED, error=ERROR), State.RETRYING, True, "failed"),
        ({}, Ending(outcome=Outcome.TIMEOUT, error=ERROR), State.RETRYING, True, "timeout"),
        ({"tries": 3}, Ending(outcome=Outcome.FAILED, error=ERROR), State.FAILED, True, "attempts_used_up"),
        ({"attempt": 7, "tries": 2}, Ending(outcome=Outcome.FAILED), State.RETRYING, True, "failed"),
        ({}, Ending(outcome=Outcome.FAILED, error=ERROR, final=True), State.FAILED, True, "not_retryable"),
        ({}, Ending(outcome=Outcome.SNOOZED, after=60), State.SCHEDULED, False, "snoozed"),
        ({"snoozes": SNOOZES_MAX}, Ending(outcome=Outcome.SNOOZED), State.FAILED, False, "snoozed_too_often"),
        ({"tries": 3}, Ending(outcome=Outcome.INTERRUPTED), State.QUEUED, False, "interrupted"),
        (
            {"interruptions": INTERRUPTIONS_MAX},
            Ending(outcome=Outcome.INTERRUPTED),
            State.FAILED,
            False,
            "interrupted_too_often",
        ),
        ({}, Ending(outcome=Outcome.LOST), State.QUEUED, False, "interrupted"),
        ({"crashes": 1}, Ending(outcome=Outcome.CRASHED), State.QUEUED, False, "crashed"),
        ({"crashes": 2}, Ending(outcome=Outcome.CRASHED), State.FAILED, False, "poison"),
        ({}, Ending(outcome=Outcome.CANCELLED), State.CANCELLED, True, "cancelled"),
    ],
)
def test_decide(claim: dict[str, Any], ending: Ending, state: State, charged: bool, reason: str | None) -> None:
    """Each ending leads to the state of DESIGN's lifecycle, with its reason."""
    settlement = decide(CLAIM._replace(**claim), ending, RetryPolicy())
    assert (settlement.state, settlement.charged, settlement.reason) == (state, charged, reason)


ENDINGS = st.builds(
    Ending,
    outcome=st.sampled_from(Outcome),
    after=st.none() | st.floats(0, 1e9),
    final=st.booleans(),
)
CLAIMS = st.builds(
    CLAIM._replace,
    tries=st.integers(1, 2_000),
    attempt=st.integers(1, 5_000),
    max_attempts=st.integers(1, 1_000),
    crashes=st.integers(0, 5),
    interruptions=st.integers(0, 60),
    snoozes=st.integers(0, 1_100),
)


@given(CLAIMS, ENDINGS, st.floats(0, 1, exclude_max=True))
def test_every_ending_takes_an_arrow_that_exists(claim: Claim, ending: Ending, chance: float) -> None:
    """No settlement leaves the chart; delays belong to states that wait, and are sane; the token is the claim's."""
    settlement = decide(claim, ending, RetryPolicy(), lambda: chance)
    assert settlement.state in TRANSITIONS[State.RUNNING]
    assert (settlement.id, settlement.epoch, settlement.worker) == (claim.id, claim.epoch, claim.worker)
    assert (settlement.delay is not None) == (settlement.state in {State.RETRYING, State.SCHEDULED})
    assert settlement.delay is None or 0 <= settlement.delay <= min(max(3_600, ending.after or 0), HORIZON_SECONDS)


@given(CLAIMS, ENDINGS)
def test_nothing_goes_on_for_ever(claim: Claim, ending: Ending) -> None:
    """A job past every cap is over, whatever its run ended in."""
    spent = claim._replace(tries=1_000, max_attempts=3, interruptions=60, snoozes=1_001, crashes=2)
    assert decide(spent, ending, RetryPolicy()).state.terminal


def test_the_chart_is_closed() -> None:
    """Every state has a row; terminal states but failed have no way out."""
    assert set(TRANSITIONS) == set(State)
    assert all(not TRANSITIONS[state] for state in State if state.terminal and state is not State.FAILED)
    assert TRANSITIONS[State.FAILED] == {State.QUEUED}


@pytest.mark.parametrize(
    ("priority", "lane"),
    [(0, Lane.LOW), (3, Lane.LOW), (4, Lane.NORMAL), (6, Lane.NORMAL), (7, Lane.HIGH), (9, Lane.HIGH)],
)
def test_lanes(priority: int, lane: Lane) -> None:
    """Three bands of priority."""
    assert Lane.of(priority) is lane
