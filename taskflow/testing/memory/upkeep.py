"""Upkeep: promote, sweep, adopt, retain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from taskflow.core.job import Outcome, State
from taskflow.ports.store import Promoted, Retained, Swept
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

    async def sweep(self, lease: float, *, limit: int = 500, now: datetime | None = None) -> Swept:
        """Who is dead is decided by time, and never in grace; whose rows nobody runs is not."""
        tables, moment, length = self._tables, self._tables.now(now), timedelta(seconds=lease)
        in_grace = self._in_grace(length, moment)
        dead = [] if in_grace else self._bury(lambda heard: heard < moment - length)
        rescues = [
            rescue(tables, self._held(limit, "stopped"), Outcome.INTERRUPTED, moment),
            rescue(tables, self._held(limit, "dead", None), Outcome.CRASHED, moment),
            rescue(tables, [] if in_grace else self._overdue(limit, moment), Outcome.LOST, moment),
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
        self._tables.last_sweep_at = self._tables.grace_until = moment
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

    def _in_grace(self, lease: timedelta, now: datetime) -> bool:
        """Whoever sweeps after a gap, or after the clock was set back, gives everybody a whole lease to be heard."""
        last, grace = self._tables.last_sweep_at, self._tables.grace_until
        if last is None or grace is None or not now - lease / 2 <= last <= now:
            grace = now + lease
        self._tables.last_sweep_at, self._tables.grace_until = now, grace
        return now < grace

    def _bury(self, silent: Callable[[datetime], bool]) -> list[str]:
        """Live workers whose last word was too long ago are dead from now on."""
        dead = [
            info.id
            for info in self._tables.workers.values()
            if info.state == "alive" and info.heartbeat_at is not None and silent(info.heartbeat_at)
        ]
        for name in dead:
            self._tables.workers[name] = replace(self._tables.workers[name], state="dead")
        return dead

    def _held(self, limit: int, *states: str | None) -> list[Row]:
        """Running rows of workers in one of these states; `None` is for a worker that nobody knows."""
        states_of = {info.id: info.state for info in self._tables.workers.values()}
        return [row for row in self._tables.running() if states_of.get(row.worker or "") in states][:limit]

    def _overdue(self, limit: int, now: datetime) -> list[Row]:
        return [row for row in self._tables.running() if row.deadline_at is not None and row.deadline_at < now][:limit]

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
