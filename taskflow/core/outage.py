"""Outages: told once, and waited out with a growing, jittered pause."""

from __future__ import annotations

import logging
import random

log = logging.getLogger("taskflow")


def backoff(failures: int, base: float = 0.1, cap: float = 15.0) -> float:
    """Seconds to wait after so many failures in a row: doubling, clamped before the power is taken, jittered."""
    doubled: float = min(cap, base * 2.0 ** min(failures - 1, 32))
    return doubled * random.uniform(0.5, 1)


class Outage:
    """Logs one line when a thing is lost and one when it is back."""

    def __init__(self, thing: str) -> None:
        self.thing = thing
        self.failures = 0

    def lost(self, error: BaseException) -> float:
        """Note a failure.

        Returns:
            Seconds to wait before the next try.
        """
        self.failures += 1
        if self.failures == 1:
            log.warning("%s lost: %s", self.thing, str(error) or type(error).__name__)
        return backoff(self.failures)

    def back(self) -> None:
        """Note that it works."""
        if self.failures:
            log.warning("%s is back after %d failures", self.thing, self.failures)
            self.failures = 0
