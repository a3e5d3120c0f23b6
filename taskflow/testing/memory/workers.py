"""Workers: who is there, and what they hold."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Self

from taskflow.core.job import Outcome, State, Ticket
from taskflow.core.limits import LEASE_SECONDS_MAX, LEASE_SECONDS_MIN
from taskflow.ports.store import Beat, Held, WorkerInfo
from taskflow.testing.memory.ending import rescue
from taskflow.testing.memory.tables import Tables

ENDED_SHOWN: Final = timedelta(days=1)


class WorkersPart:
    """The part of the store that workers sign on to."""

    _tables: Tables

    async def register(self, worker: WorkerInfo, *, now: datetime | None = None) -> list[Ticket]:
        """Add a worker; rows that waited for its tasks are queued again."""
        moment = self._tables.now(now)
        lease = worker.lease if LEASE_SECONDS_MIN <= worker.lease <= LEASE_SECONDS_MAX else LEASE_SECONDS_MAX
        self._tables.workers[worker.id] = replace(
            worker, lease=lease, state="alive", started_at=moment, heartbeat_at=moment
        )
        return unpark(self._tables, moment)

    async def beat(self, worker: str, *, now: datetime | None = None) -> Beat:
        """Prove life, hear what is held."""
        moment = self._tables.now(now)
        if not self._tables.alive(worker):
            return Beat(alive=False)
        self._tables.workers[worker] = replace(self._tables.workers[worker], heartbeat_at=moment)
        held = [
            Held(row.id, row.epoch, row.cancel_requested_at is not None, (moment - row.started_at).total_seconds())
            for row in self._tables.running(worker)
            if row.started_at is not None
        ]
        return Beat(True, held)

    async def release(
        self, worker: str, runs: Sequence[tuple[str, int]], *, now: datetime | None = None
    ) -> list[Ticket]:
        """Give rows back uncharged."""
        mine = [row for row in self._tables.running(worker) if (row.id, row.epoch) in runs]
        return rescue(self._tables, mine, Outcome.INTERRUPTED, self._tables.now(now))[0]

    async def stop(self, worker: str, *, now: datetime | None = None) -> list[Ticket]:
        """Mark a clean end; what it left is an interruption."""
        moment = self._tables.now(now)
        if self._tables.alive(worker):
            self._tables.workers[worker] = replace(self._tables.workers[worker], state="stopped", heartbeat_at=moment)
        return rescue(self._tables, self._tables.running(worker), Outcome.INTERRUPTED, moment)[0]

    async def workers(self) -> list[WorkerInfo]:
        """Who is or was there."""
        since = self._tables.clock() - ENDED_SHOWN
        found = [
            info
            for info in self._tables.workers.values()
            if info.state == "alive" or (info.heartbeat_at is not None and info.heartbeat_at >= since)
        ]
        return sorted(found, key=lambda info: (info.started_at or since, info.id), reverse=True)

    @asynccontextmanager
    async def heart(self) -> AsyncIterator[Self]:
        """Beats go the same way as everything else."""
        yield self


def unpark(tables: Tables, now: datetime, limit: int | None = None) -> list[Ticket]:
    """Rows whose task has a worker again are queued again, all of them unless limited."""
    known = tables.listed_tasks()
    waiting = [
        row
        for row in tables.jobs.values()
        if row.state is State.WAITING and row.reason == "no_worker" and row.asked.task in known
    ]
    return [row.queue(now) for row in waiting[:limit]]
