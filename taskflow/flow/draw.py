"""Draw: a claim straight from the table, for rows whose tickets are lost. Cheap while nothing is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
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
AGAIN: Final = 0.1
"""Between two looks of a worker that has just run out of work."""
BEHIND: Final = timedelta(seconds=10)
"""Lanes are first in, first out: a row this much older than the newest ticket of its lane has lost its own."""
Well = RunsIn | None
ISOLATED: Final = None
"""Rows that crashed their workers, for the slot of their own."""
WELLS: Final[Sequence[Well]] = (*RunsIn, ISOLATED)


class Pace:
    """When to look at the whole table next: each second after a find, and half as often after each look in vain."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause = IDLE
        self._looked = self._next = -math.inf

    @property
    def left(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next - self._clock())

    def begin(self) -> None:
        """A look begins. What is asked for meanwhile is for the next one."""
        self._looked, self._next = self._clock(), math.inf

    def end(self, found: int, *, linked: bool) -> None:
        """It is over, or rows were found in between."""
        self._pause = IDLE if found else min(BUSY, self._pause * 2)
        self._next = min(self._next, self._clock() + (self._pause if linked else UNLINKED))

    def at_once(self) -> None:
        """Whatever the last look said."""
        self._next = -math.inf

    def soon(self) -> None:
        """But not after each job of a worker with few slots."""
        self._next = min(self._next, self._looked + AGAIN)


class Drawer:
    """Finds queued rows without tickets: an idle worker each 1 to 5 s, a busy one each 5 s behind the lanes' fronts.
    One that found some draws again until it finds none, and as soon as a slot is free where all are taken. One whose
    slots were all taken and that runs out of tickets looks soon: others may hold more than they can run.

    Args:
        lanes: the lanes this worker serves, in the order to draw from.
        isolation_free: whether the slot for jobs that crashed their workers is free.
        linked: whether tickets can come.
        unused: told that slots which a draw held are free again while tickets wait.
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
        unused: Callable[[], None] = lambda: None,
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
        self._unused = unused
        self._pace = Pace(clock)
        self._rich: set[Well] = set()
        self._full: set[Well] = set()
        self.bell = Bell()
        self.drawn = 0

    def started(self, kind: RunsIn) -> None:
        """A run of this kind has begun."""
        if self._slots.full(kind):
            self._full.add(kind)

    def ended(self, well: Well) -> None:
        """A run of this kind, or the isolated one, is over."""
        if well in self._rich:
            self.bell.ring()
        elif well is not ISOLATED and well in self._full and self._intake.waiting(well) < self._slots.free(well):
            self._full.discard(well)
            self.hurry()

    def hurry(self) -> None:
        """There are slots for more than is at hand: look soon."""
        self._pace.soon()
        self.bell.ring()

    def look(self) -> None:
        """Rows may have been queued without tickets: look at once."""
        self._pace.at_once()
        self.bell.ring()

    async def once(self) -> float:
        """Draw from all wells where it is time, and in between from those that had rows the last time.

        Returns:
            Seconds until the next draw: none while it finds rows, doubling to 5 s while it does not.
        """
        if not self._slots.open:
            return BUSY
        # Asked also while nothing is drawn: whoever answers may tell of a change.
        linked = self._linked()
        everywhere = not self._pace.left
        if everywhere:
            self._pace.begin()
        found = 0
        try:
            for well in WELLS if everywhere else [each for each in WELLS if each in self._rich]:
                found += await self._draw(well)
        except BaseException:
            # A look that failed was none.
            self._pace.at_once()
            raise
        self.drawn += found
        if everywhere or found:
            self._pace.end(found, linked=linked)
        return 0.0 if found else self._pace.left

    async def _draw(self, well: Well) -> int:
        if well is ISOLATED:
            claims = await self._ask(well, int(self._isolation_free()), isolated=True)
        else:
            count, busy = min(BATCH, self._slots.free(well)), self._intake.waiting(well) > 0
            # Where a claim in flight merely holds the slots, what it leaves is for tickets.
            crowded = busy and self._slots.full(well)
            self._slots.promise(well, wanted=crowded)
            self._slots.hold(well, count)
            try:
                claims = await self._ask(well, count, behind=self._behind() if busy else None)
            finally:
                self._slots.release(well, count)
                if count and self._intake.waiting(well):
                    self._unused()
            if crowded:
                self._rich.add(well)
        return claims

    async def _ask(
        self, well: Well, count: int, *, behind: Mapping[LaneKey, datetime] | None = None, isolated: bool = False
    ) -> int:
        tasks = [name for kind in RunsIn if well is ISOLATED or kind is well for name in self._tasks(kind)]
        lanes = self._lanes()
        if not (tasks and lanes and count):
            return 0
        claims = await self._claims.draw(self._worker(), lanes, tasks, count, queued_before=behind, isolated=isolated)
        for claim in claims:
            self._start(claim)
        (self._rich.add if claims else self._rich.discard)(well)
        return len(claims)

    def _behind(self) -> Mapping[LaneKey, datetime]:
        """When a row of each lane must have been queued to have lost its ticket, while others' wait here."""
        return {lane: front - BEHIND for lane, front in self._intake.fronts_of(self._lanes()).items()}
