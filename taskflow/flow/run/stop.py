"""Why a run is stopped from outside, and what that makes of it."""

from __future__ import annotations

from enum import StrEnum

from taskflow.core.job import Claim, ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending


class StopReason(StrEnum):
    """Who wants the run to end."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    LOST = "lost"


_OUTCOMES = {
    StopReason.TIMEOUT: Outcome.TIMEOUT,
    StopReason.CANCELLED: Outcome.CANCELLED,
    StopReason.SHUTDOWN: Outcome.INTERRUPTED,
    StopReason.LOST: Outcome.LOST,
}


def stopped(claim: Claim, reason: StopReason, *, began: bool = True) -> Ending:
    """The ending of a run that was stopped, whatever its handler made of it. Time that passed before it began was the
    worker's: that is an interruption."""
    error = None
    if reason is StopReason.TIMEOUT:
        if not began:
            return Ending(outcome=Outcome.INTERRUPTED)
        error = ErrorInfo("Timeout", f"the attempt took longer than its timeout of {claim.timeout:g} s")
    return Ending(outcome=_OUTCOMES[reason], error=error)
