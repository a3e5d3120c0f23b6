"""What a handler raises to say how its run ended."""

from __future__ import annotations

from taskflow.core.durations import seconds
from taskflow.core.limits import HORIZON_SECONDS


class Signal(Exception):
    """Base of the verdicts that a handler may raise."""


class Retry(Signal):
    """Try again: a counted attempt with this delay instead of the policy's.

    Args:
        after: seconds, or a text such as `"10m"`.
        reason: shown as the attempt's error.

    Raises:
        ValueError: `after` is no duration, or more than 5 years.
    """

    def __init__(self, after: float | str = 0, reason: str = "the handler asked for a retry") -> None:
        super().__init__(reason)
        self.after = _wait("Retry", after)


class Snooze(Signal):
    """Not now: run again after this time, without counting the attempt.

    Args:
        after: seconds, or a text such as `"10m"`.

    Raises:
        ValueError: `after` is no duration, or more than 5 years.
    """

    def __init__(self, after: float | str) -> None:
        self.after = _wait("Snooze", after)
        super().__init__(f"snoozed for {after}")


class Fail(Signal):
    """Hopeless: the job fails at once, whatever attempts are left."""


def _wait(signal: str, after: float | str) -> float:
    """Seconds of a wait. Checked here, in the handler that asks: further on, an instant past the year 9999 would be
    stored and could never be shown."""
    try:
        wait = seconds(after)
    except (TypeError, ValueError):
        raise ValueError(f"{signal}(after={after!r:.80}): use seconds or a text such as '1h30m'") from None
    if wait > HORIZON_SECONDS:
        raise ValueError(f"{signal}(after={after!r:.80}): wait 5 years ({HORIZON_SECONDS} seconds) at most")
    return wait
