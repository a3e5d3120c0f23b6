"""Draw: a claim straight from the table, for rows whose tickets are lost. Cheap while nothing is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from taskflow.core.job import Claim, LaneKey, RunsIn
from taskflow.flow.claim import BATCH, Slots
from taskflow.flow.intake import Intake
from taskflow.flow.loops import Bell
from taskflow.ports.store import Claims

IDLE: Final = 1.0
BUSY: Final = 5.0
UNLINKED: Final = 0.25
"""While no tickets come at all, the table is the queue."""
BEHIND: Final = timedelta(seconds=10)
"""Lanes are first in, first out: a row this much older than the newest ticket of its lane has lost its own."""
NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""A lane that no ticket ever came from has lost all of them."""
Well = RunsIn | None
ISOLATED: Final = None
"""Rows that crashed their workers, for the slot of their own."""
WELLS: Final[Sequence[Well]] = (*RunsIn, ISOLATED)


class Drawer:
    """Finds queued rows without tickets: an idle worker each 1 to 5 s, a busy one each 5 s behind the lanes' fronts.
    One that found some draws again until it finds none, and as soon as a slot is free where all are taken.

    Args:
        lanes: the lanes this worker serves, in the order to draw from.
        isolation_free: whether the slot for jobs that crashed their workers is free.
        linked: whether tickets can come.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        claims: Claims,
        intake: Intake,
        slots: Slots,
        *,
        worker: Callable[[], str],
        tasks: Callable[[RunsIn], Sequence[str]],
        lanes: Callable[[], Sequence[LaneKey]],
        isolation_free: Callable[[], bool],
        start: Callable[[Claim], None],
        linked: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._intake = intake
        self._slots = slots
        self._worker = worker
        self._tasks = tasks
        self._linked = linked
        self._lanes = lanes
        self._isolation_free = isolation_free
        self._start = start
        self._clock = clock
        self._pause = IDLE
        self._look_at = -math.inf
        self._rich: set[Well] = set()
        self.bell = Bell()
        self.drawn = 0

    def freed(self) -> None:
        """A slot is free: draw at once where more rows are known to wait."""
        if self._rich:
            self.bell.ring()

    def look(self) -> None:
        """Something has changed that may have queued rows without tickets: look everywhere at once."""
        self._look_at = -math.inf
        self.bell.ring()

    async def once(self) -> float:
        """Draw from all wells where it is time, and in between from those that had rows the last time.

        Returns:
            Seconds until the next draw: none while it finds rows, doubling to 5 s while it does not.
        """
        if not self._slots.open:
            return BUSY
        everywhere = self._clock() >= self._look_at
        found = 0
        for well in WELLS if everywhere else [each for each in WELLS if each in self._rich]:
            found += await self._draw(well)
        self.drawn += found
        if everywhere or found:
            self._pause = IDLE if found else min(BUSY, self._pause * 2)
            pause = self._pause if self._linked() else UNLINKED
            self._look_at = self._clock() + pause
        return 0.0 if found else max(0.0, self._look_at - self._clock())

    async def _draw(self, well: Well) -> int:
        isolated = well is ISOLATED
        tasks = [name for kind in RunsIn if isolated or kind is well for name in self._tasks(kind)]
        count = int(self._isolation_free()) if well is ISOLATED else min(BATCH, self._slots.free(well))
        behind = None if well is ISOLATED else self._behind(well)
        if not (tasks and count):
            return 0
        if well is not ISOLATED:
            self._slots.hold(well, count)
        try:
            claims = await self._claims.draw(
                self._worker(), self._lanes(), tasks, count, queued_before=behind, isolated=isolated
            )
            for claim in claims:
                self._start(claim)
        finally:
            if well is not ISOLATED:
                self._slots.release(well, count)
        if claims:
            self._rich.add(well)
        else:
            self._rich.discard(well)
        return len(claims)

    def _behind(self, kind: RunsIn) -> dict[LaneKey, datetime] | None:
        """When a row of each lane must have been queued while tickets wait here; `None` where none do."""
        if not self._intake.waiting(kind):
            return None
        fronts = self._intake.fronts
        return {lane: fronts[lane] - BEHIND if lane in fronts else NEVER for lane in self._lanes()}
