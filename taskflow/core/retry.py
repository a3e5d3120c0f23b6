"""When a failed attempt is tried again."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

from taskflow.core.durations import seconds
from taskflow.core.limits import ATTEMPTS, ATTEMPTS_MAX, HORIZON_SECONDS

_TICK = 1e-6


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with equal jitter: attempt n waits `base * factor**(n - 1)`, capped, times 0.5 to 1.

    Attributes:
        attempts: attempts in all, the first included; 1 to 1,000.
        base: seconds (or `"30s"`) before the second attempt.
        factor: growth from one delay to the next, 1 or more.
        cap: longest delay in seconds (or `"1h"`).
        give_up_on: exception types that fail the job at once.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    attempts: int = ATTEMPTS
    base: float | str = 1.0
    factor: float = 2.0
    cap: float | str = 3_600.0
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        for name in ("base", "cap"):
            try:
                object.__setattr__(self, name, seconds(getattr(self, name)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if isinstance(self.attempts, bool) or not 1 <= self.attempts <= ATTEMPTS_MAX:
            raise ValueError(f"attempts={self.attempts!r}: use 1 to {ATTEMPTS_MAX}")
        # Compared, not converted: an integer may be larger than every float.
        if isinstance(self.factor, bool) or not 1 <= self.factor <= sys.float_info.max:
            raise ValueError(f"factor={self.factor!r}: use a finite number of 1 or more")
        for exception in self.give_up_on:
            if not (isinstance(exception, type) and issubclass(exception, BaseException)):
                raise ValueError(f"give_up_on has {exception!r}: use exception types")

    def delay(self, attempt: int, chance: Callable[[], float] = random.random) -> float:
        """Seconds to wait after counted attempt `attempt` (from 1) has failed.

        Args:
            attempt: the attempt that failed.
            chance: a number in [0, 1); injected by tests.
        """
        return self.ceiling(attempt) * (0.5 + chance() / 2)

    def ceiling(self, attempt: int) -> float:
        """The delay before jitter."""
        base, cap = float(self.base), min(float(self.cap), HORIZON_SECONDS)
        # No store tells shorter delays apart, and from a base of 1e-300 the power would overflow before the cap is reached.
        base = max(base, _TICK) if base else 0.0
        if base <= 0 or cap <= base or self.factor == 1:
            return min(base, cap)
        # Compared as logarithms: factor**1000 overflows a float.
        if (attempt - 1) * math.log(self.factor) >= math.log(cap) - math.log(base):
            return cap
        return min(cap, base * self.factor ** (attempt - 1))
