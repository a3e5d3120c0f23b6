"""What a handler raises to say how its run ended."""

from __future__ import annotations

from taskflow.core.durations import seconds


class Signal(Exception):
    """Base of the verdicts that a handler may raise."""


class Retry(Signal):
    """Try again: a counted attempt with this delay instead of the policy's.

    Args:
        after: seconds, or a text such as `"10m"`.
        reason: shown as the attempt's error.
    """

    def __init__(self, after: float | str = 0, reason: str = "the handler asked for a retry") -> None:
        super().__init__(reason)
        self.after = seconds(after)


class Snooze(Signal):
    """Not now: run again after this time, without counting the attempt.

    Args:
        after: seconds, or a text such as `"10m"`.
    """

    def __init__(self, after: float | str) -> None:
        super().__init__(f"snoozed for {after}")
        self.after = seconds(after)


class Fail(Signal):
    """Hopeless: the job fails at once, whatever attempts are left."""
