"""The line before the handlers' loop: how many runs may be handed to it, so that each begins soon.

Slots say how many handlers may wait for something at a time. Handlers that compute have one core however many slots there
are: whoever claimed as many as he has slots would keep jobs from workers that stand idle.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from taskflow.flow.run.run import Run

LEAST: Final = 16
"""Runs that may stand in line whatever the pace is."""
PERIOD: Final = 0.1
"""Seconds over which the pace is measured. The line holds what begins in one to two of them."""


class Line:
    """Runs that were handed over and have not begun, in their order. It belongs to the main loop; only `awaited` is looked at, and
    reset, by the handlers' thread as well, after it has set the run's `began`.

    Args:
        clock: seconds, monotonic.

    Attributes:
        awaited: the run at whose beginning whoever asked in vain is told; `None` where nobody did since.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: deque[Run] = deque()
        self._since = clock()
        self._begun = 0
        self._pace = 0.0
        self.awaited: Run | None = None

    def waiting(self) -> int:
        """How many have not begun. The others are let go of."""
        runs = self._runs
        while runs and (runs[0].began is not None or runs[0].ended):
            runs.popleft()
            self._begun += 1
        return len(runs)

    def add(self, run: Run) -> None:
        """It is handed over."""
        self._runs.append(run)

    def room(self) -> int:
        """How many more would begin soon: none before half of the line is gone, so that they come in batches. Whoever is
        told none hears when that is so."""
        waiting = self.waiting()
        most = max(LEAST, int(2 * self._measured()))
        if 2 * waiting <= most:
            return most - waiting
        self.awaited = awaited = self._runs[waiting - most // 2 - 1]
        # It may have begun on the other thread before it could know.
        return 0 if awaited.began is None else most - most // 2

    def _measured(self) -> float:
        """Runs that begin in a period: the last whole one, or this one where it has more by now."""
        now = self._clock()
        length = now - self._since
        if length >= PERIOD:
            self._pace = self._begun * PERIOD / length
            self._begun, self._since = 0, now
        return max(self._pace, self._begun)
