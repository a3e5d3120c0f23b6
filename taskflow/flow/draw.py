"""Draw: a claim straight from the table, for rows whose tickets are lost. Cheap while nothing is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from math import inf
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
"""Between two draws in vain of a worker whose slots were just full."""
BEHIND: Final = timedelta(seconds=10)
"""Lanes are first in, first out: a row this much older than the newest ticket of its lane has lost its own."""


class Drawer:
    """Finds queued rows without tickets: an idle worker each 1 to 5 s, a busy one each 5 s behind the lanes' fronts.

    Args:
        lanes: the lanes this worker serves, in the order to draw from.
        isolation_free: whether the slot for jobs that crashed their workers is free.
        linked: whether tickets can come.
        freed: told that slots which a draw held are free again while tickets wait.
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
        freed: Callable[[], None] = lambda: None,
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
        self._freed = freed
        self._clock = clock
        self._pause = IDLE
        self._due = -inf
        self._hurried: set[RunsIn] = set()
        self._in_vain: dict[RunsIn, float] = {}
        self.bell = Bell()
        self.drawn = 0

    def hurry(self, kind: RunsIn) -> None:
        """A worker whose slots were full has nothing left for them: others may hold more than they can run."""
        self._hurried.add(kind)
        self.bell.ring()

    async def once(self) -> float:
        """Draw once for each kind of slot.

        Returns:
            Seconds until the next draw: none while it finds rows, doubling to 5 s while it does not.
        """
        if not self._slots.open:
            return BUSY
        if self._hurried and self._clock() < self._due:
            return await self._once_more()
        self._hurried.clear()
        linked, found = self._linked(), 0
        for kind in RunsIn:
            if self._tasks(kind):
                found += await self._draw(kind)
        found += await self._draw_isolated()
        self.drawn += found
        self._pause = IDLE if found else min(BUSY, self._pause * 2)
        pause = 0.0 if found else self._pause if linked else UNLINKED
        self._due = self._clock() + pause
        return pause

    async def _once_more(self) -> float:
        """Only for those kinds, and not so often that a worker with few jobs at a time would ask after each."""
        now = self._clock()
        wait = max(self._in_vain.get(kind, -inf) for kind in self._hurried) + AGAIN - now
        if wait > 0:
            return min(wait, self._due - now)
        kinds, self._hurried = self._hurried, set()
        found = sum([await self._draw(kind) for kind in kinds])
        self.drawn += found
        self._pause = IDLE
        self._due = self._clock() if found else min(self._due, now + IDLE)
        return max(0.0, self._due - self._clock())

    async def _draw(self, kind: RunsIn) -> int:
        count = min(BATCH, self._slots.free(kind))
        busy, lanes = self._intake.waiting(kind) > 0, self._lanes()
        self._slots.promise(kind, wanted=busy and not count)
        if not (count and lanes):
            return 0
        # Tickets that wait are of lanes that have fronts.
        behind = {lane: front - BEHIND for lane, front in self._intake.fronts_of(lanes).items()} if busy else None
        self._slots.hold(kind, count)
        try:
            claims = await self._claims.draw(self._worker(), lanes, self._tasks(kind), count, queued_before=behind)
            for claim in claims:
                self._start(claim)
            if not claims:
                self._in_vain[kind] = self._clock()
            return len(claims)
        finally:
            self._slots.release(kind, count)
            if self._intake.waiting(kind):
                self._freed()

    async def _draw_isolated(self) -> int:
        tasks = [name for kind in RunsIn for name in self._tasks(kind)]
        if not (tasks and self._isolation_free()):
            return 0
        claims = await self._claims.draw(self._worker(), self._lanes(), tasks, 1, isolated=True)
        for claim in claims:
            self._start(claim)
        return len(claims)
