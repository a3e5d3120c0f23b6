"""Upkeep: promote, sweep, adopt, retain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from taskflow.core.job import Outcome, State
from taskflow.ports.store import Promoted, Retained, Swept, WorkerInfo
from taskflow.testing.memory.ending import rescue
from taskflow.testing.memory.tables import DUE_LATER, NOT_STARTED, Row, Tables
from taskflow.testing.memory.workers import ENDED_SHOWN, unpark

ALL: Final = 1 << 62


class UpkeepPart:
    """The part of the store that keeps house: standing conditions, looked at by whoever comes."""

    _tables: Tables

    async def promote(self, limit: int = 500, *, now: datetime | None = None) -> Promoted:
        """Due rows become queued, the longest due first."""
        moment = self._tables.now(now)
        later = [
            (row.run_at, row) for row in self._tables.jobs.values() if row.state in DUE_LATER and row.run_at is not None
        ]
        later.sort(key=lambda pair: pair[0])
        due = [row for run_at, row in later if run_at <= moment][:limit]
        for row in due:
            row.run_at = None
        tickets = [row.queue(moment) for row in due]
        left = [run_at for run_at, row in later if row.state in DUE_LATER]
        next_due = max(0.0, (left[0] - moment).total_seconds()) if left else None
        return Promoted(tickets, next_due, more=len(tickets) == limit)

    async def sweep(self, gap: float, *, limit: int = 500, now: datetime | None = None) -> Swept:
        """Who is dead is decided by time, and by nobody's but its own lease; whose rows nobody runs is not."""
        tables, moment = self._tables, self._tables.now(now)
        self._watch(timedelta(seconds=gap), moment)
        in_grace = any(info.state == "alive" and not self._watched(info, moment) for info in tables.workers.values())
        dead = self._bury(lambda info: self._silent(info, moment) and self._watched(info, moment))
        rescues = [
            rescue(tables, self._held(limit, "stopped"), Outcome.INTERRUPTED, moment),
            rescue(tables, self._held(limit, "dead", None), Outcome.CRASHED, moment),
            rescue(tables, self._overdue(limit, moment), Outcome.LOST, moment),
        ]
        expired = self._expired(limit, moment)
        for row in expired:
            row.close_waiting(State.EXPIRED, moment)
        unparked = unpark(tables, moment, limit)
        homeless = self._homeless(limit)
        for row in homeless:
            row.state, row.reason, row.queued_at = State.WAITING, "no_worker", None
        changed = [change for _, changes in rescues for change in changes]
        return Swept(
            tickets=[*(ticket for tickets, _ in rescues for ticket in tickets), *unparked],
            dead_workers=dead,
            rescued=len(changed),
            expired=len(expired),
            parked=len(homeless),
            unparked=len(unparked),
            in_grace=in_grace,
            changed=[
                *changed,
                *((row.id, row.state) for row in (*expired, *homeless)),
                *((ticket.job_id, State.QUEUED) for ticket in unparked),
            ],
        )

    async def adopt(self, *, now: datetime | None = None) -> Swept:
        """Whoever calls this knows that every worker is dead."""
        moment = self._tables.now(now)
        dead = self._bury(lambda _: True)
        left = rescue(self._tables, self._held(ALL, "stopped"), Outcome.INTERRUPTED, moment)
        crashed = rescue(self._tables, self._held(ALL, "dead", None), Outcome.CRASHED, moment)
        self._tables.last_sweep_at = self._tables.watched_since = moment
        changed = [*left[1], *crashed[1]]
        return Swept(tickets=[*left[0], *crashed[0]], dead_workers=dead, rescued=len(changed), changed=changed)

    async def retain(self, seconds: float, *, limit: int = 500, now: datetime | None = None) -> Retained:
        """Delete what is past its time, in one batch of each."""
        tables, moment = self._tables, self._tables.now(now)
        until = moment - timedelta(seconds=seconds)
        old = [row.id for row in tables.jobs.values() if row.over and row.finished_at and row.finished_at < until]
        keys = [name for name, key in tables.keys.items() if key.expires_at <= moment][:limit]
        for name in keys:
            del tables.keys[name]
        tables.workers = {
            name: info
            for name, info in tables.workers.items()
            if info.state == "alive" or (info.heartbeat_at and info.heartbeat_at >= moment - ENDED_SHOWN)
        }
        return Retained(tables.forget(set(old[:limit])), more=limit in (len(old[:limit]), len(keys)))

    def _watch(self, gap: timedelta, now: datetime) -> None:
        """Whoever sweeps after a gap, or after the clock was set back, gives each worker its whole lease to be heard."""
        last = self._tables.last_sweep_at
        if last is None or not now - gap <= last <= now:
            self._tables.watched_since = now
        self._tables.last_sweep_at = now

    def _watched(self, worker: WorkerInfo, now: datetime) -> bool:
        since = self._tables.watched_since
        return since is not None and since <= now - timedelta(seconds=worker.lease)

    def _silent(self, worker: WorkerInfo, now: datetime) -> bool:
        return worker.heartbeat_at is not None and worker.heartbeat_at < now - timedelta(seconds=worker.lease)

    def _bury(self, gone: Callable[[WorkerInfo], bool]) -> list[str]:
        """Live workers that are gone are dead from now on."""
        dead = [info.id for info in self._tables.workers.values() if info.state == "alive" and gone(info)]
        for name in dead:
            self._tables.workers[name] = replace(self._tables.workers[name], state="dead")
        return dead

    def _held(self, limit: int, *states: str | None) -> list[Row]:
        """Running rows of workers in one of these states; `None` is for a worker that nobody knows."""
        states_of = {info.id: info.state for info in self._tables.workers.values()}
        return [row for row in self._tables.running() if states_of.get(row.worker or "") in states][:limit]

    def _overdue(self, limit: int, now: datetime) -> list[Row]:
        late = [row for row in self._tables.running() if row.deadline_at is not None and row.deadline_at < now]
        heard = {info.id for info in self._tables.workers.values() if self._watched(info, now)}
        return [row for row in late if row.worker in heard][:limit]

    def _expired(self, limit: int, now: datetime) -> list[Row]:
        return self._first(
            limit, lambda row: row.expires_at is not None and row.expires_at <= now and row.state in NOT_STARTED
        )

    def _homeless(self, limit: int) -> list[Row]:
        known = self._tables.listed_tasks()
        return self._first(limit, lambda row: row.state is State.QUEUED and row.asked.task not in known)

    def _first(self, limit: int, wanted: Callable[[Row], bool]) -> list[Row]:
        found: Iterator[Row] = filter(wanted, self._tables.jobs.values())
        return list(found)[:limit]
