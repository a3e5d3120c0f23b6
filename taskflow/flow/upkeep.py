"""Upkeep: recovery as standing conditions over the database. Any replica may run it at any time."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import Final

from taskflow.core.job import State
from taskflow.flow.loops import Bell
from taskflow.flow.publish import Publisher
from taskflow.ports.artifacts import Artifacts
from taskflow.ports.events import Events
from taskflow.ports.store import Upkeep

LONGEST_SLEEP: Final = 2.0
RETAIN_PERIOD: Final = 60.0
RETAIN_PAUSE: Final = 0.1
BATCH: Final = 500

log = logging.getLogger("taskflow")


class Promoter:
    """Due rows become queued; sleeps until the next one is due, 2 s at most."""

    def __init__(self, upkeep: Upkeep, publisher: Publisher) -> None:
        self._upkeep = upkeep
        self._publisher = publisher
        self._next = 0.0
        self.bell = Bell()

    def expect(self, seconds: float) -> None:
        """Somebody in this process stored a row that falls due then: look no later."""
        due = time.monotonic() + seconds
        if due < self._next:
            asleep, self._next = self._next < math.inf, due
            if asleep:
                self.bell.ring()

    async def once(self) -> float:
        """Promote one batch when it is time; returns seconds until the next."""
        left = self._next - time.monotonic()
        if left > 0:
            return left
        self._next = math.inf  # what is expected from here on is not in the answer
        try:
            promoted = await self._upkeep.promote(BATCH)
        except BaseException:
            self._next = 0.0
            raise
        self._publisher.offer(promoted.tickets)
        pause = 0.0 if promoted.more else LONGEST_SLEEP
        if promoted.next_due is not None:
            pause = min(pause, max(0.005, promoted.next_due))
        self._next = min(self._next, time.monotonic() + pause)
        return self._next - time.monotonic()


class Sweeper:
    """Silent workers are declared dead and what they ran is rescued; the expired expire; the unrunnable wait.

    Args:
        period: seconds between sweeps.
        gap: seconds without a sweep after which everybody's silence counts anew.
    """

    def __init__(self, upkeep: Upkeep, publisher: Publisher, events: Events, *, period: float, gap: float) -> None:
        self._upkeep = upkeep
        self._publisher = publisher
        self._events = events
        self._period = period
        self._gap = gap

    async def once(self) -> float:
        """Sweep once; returns seconds until the next."""
        swept = await self._upkeep.sweep(self._gap, limit=BATCH)
        self._publisher.offer(swept.tickets)
        for worker in swept.dead_workers:
            log.warning("worker %s was silent for its lease and is declared dead", worker)
        if swept.rescued:
            log.warning("rescued %d runs", swept.rescued)
        await tell(self._events, swept.changed)
        # Several conditions rescue, a batch each.
        full = max(swept.rescued, swept.expired, swept.parked, swept.unparked) >= BATCH
        return 0.0 if full else self._period


class Retainer:
    """Finished jobs are deleted after their time, in batches, and their objects after them."""

    def __init__(self, upkeep: Upkeep, artifacts: Artifacts, *, keep: float) -> None:
        self._upkeep = upkeep
        self._artifacts = artifacts
        self._keep = keep

    async def once(self) -> float:
        """Delete one batch; returns seconds until the next."""
        retained = await self._upkeep.retain(self._keep, limit=BATCH)
        if retained.objects:
            await self._artifacts.delete(*retained.objects)
        return RETAIN_PAUSE if retained.more else RETAIN_PERIOD


async def tell(events: Events, changed: Sequence[tuple[str, State]]) -> None:
    """Publish what changed to whoever waits for it."""
    await events.publish_all([(f"job:{job_id}", state.encode()) for job_id, state in changed])
