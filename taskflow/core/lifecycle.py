"""The lifecycle of a job: which state may follow which, and what an ending means for the job.

`decide` is pure. It returns delays, never instants: the store adds them to its own clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from taskflow.core.job import Claim, ErrorInfo, Outcome, State
from taskflow.core.limits import HORIZON_SECONDS, INTERRUPTIONS_MAX, SNOOZES_MAX
from taskflow.core.retry import RetryPolicy

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.SCHEDULED: frozenset({State.QUEUED, State.CANCELLED, State.EXPIRED}),
        State.WAITING: frozenset({State.QUEUED, State.CANCELLED, State.EXPIRED}),
        State.QUEUED: frozenset({State.RUNNING, State.WAITING, State.SCHEDULED, State.CANCELLED, State.EXPIRED}),
        State.RUNNING: frozenset(
            {State.SUCCEEDED, State.FAILED, State.RETRYING, State.QUEUED, State.SCHEDULED, State.CANCELLED}
        ),
        State.RETRYING: frozenset({State.QUEUED, State.CANCELLED, State.EXPIRED}),
        State.FAILED: frozenset({State.QUEUED}),
        State.SUCCEEDED: frozenset(),
        State.CANCELLED: frozenset(),
        State.EXPIRED: frozenset(),
    }
)
"""Every arrow there is. failed > queued is a replay by hand; running > queued a release."""


class Ending(NamedTuple):
    """How a run ended, before anybody has decided what that means.

    Attributes:
        outcome: succeeded, failed, timeout, cancelled, snoozed, crashed or interrupted.
        result: JSON text of what the handler returned; for succeeded only.
        error: why it did not succeed.
        after: seconds the handler asked to wait (`Retry(after=…)`, `Snooze(…)`).
        final: no retry makes sense (`Fail(…)`, a type in `give_up_on`, an unstorable result).
    """

    outcome: Outcome
    result: str | None = None
    error: ErrorInfo | None = None
    after: float | None = None
    final: bool = False


class Settlement(NamedTuple):
    """What the store writes for the end of one epoch. `delay` is seconds from the store's now.

    `progress` is the last word of the run, as JSON text. `charged` is false where the attempt is given back (interruption, crash, snooze).
    """

    id: str
    epoch: int
    worker: str
    outcome: Outcome
    state: State
    charged: bool = True
    result: str | None = None
    error: ErrorInfo | None = None
    delay: float | None = None
    reason: str | None = None
    progress: str | None = None


def decide(
    claim: Claim, ending: Ending, policy: RetryPolicy, chance: Callable[[], float] = random.random
) -> Settlement:
    """What the ending of a run means for its job."""
    outcome = ending.outcome
    if outcome is Outcome.SUCCEEDED:
        return Settlement(
            claim.id, claim.epoch, claim.worker, outcome, State.SUCCEEDED, result=ending.result, error=ending.error
        )

    def settled(
        state: State, *, delay: float | None = None, reason: str | None = None, charged: bool = True
    ) -> Settlement:
        return Settlement(
            id=claim.id,
            epoch=claim.epoch,
            worker=claim.worker,
            outcome=outcome,
            state=state,
            charged=charged,
            result=ending.result,
            error=ending.error,
            delay=delay,
            reason=reason,
        )

    def until(seconds: float) -> float:
        return min(max(0.0, seconds), float(HORIZON_SECONDS))

    match outcome:
        case Outcome.CANCELLED:
            return settled(State.CANCELLED, reason="cancelled")
        case Outcome.SNOOZED if claim.snoozes >= SNOOZES_MAX:
            return settled(State.FAILED, reason="snoozed_too_often", charged=False)
        case Outcome.SNOOZED:
            return settled(State.SCHEDULED, delay=until(ending.after or 0.0), reason="snoozed", charged=False)
        case Outcome.INTERRUPTED | Outcome.LOST if claim.interruptions >= INTERRUPTIONS_MAX:
            return settled(State.FAILED, reason="interrupted_too_often", charged=False)
        case Outcome.INTERRUPTED | Outcome.LOST:
            return settled(State.QUEUED, reason="interrupted", charged=False)
        case Outcome.CRASHED if claim.isolated:
            return settled(State.FAILED, reason="poison", charged=False)
        case Outcome.CRASHED:
            return settled(State.QUEUED, reason="crashed", charged=False)
        case Outcome.FAILED | Outcome.TIMEOUT:
            if ending.final:
                return settled(State.FAILED, reason="not_retryable")
            if claim.tries >= claim.max_attempts:
                return settled(State.FAILED, reason="attempts_used_up")
            delay = policy.delay(claim.tries, chance) if ending.after is None else ending.after
            return settled(State.RETRYING, delay=until(delay), reason=outcome.value)
