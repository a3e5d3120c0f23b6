"""Claims: claim, draw, settle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from taskflow.core.job import Claim, LaneKey, State
from taskflow.core.lifecycle import Settlement
from taskflow.core.limits import CRASHES_BEFORE_ISOLATION, DEADLINE_SLACK_SECONDS
from taskflow.ports.store import Settled
from taskflow.testing.memory.ending import end
from taskflow.testing.memory.tables import Row, Tables, refuse_unstorable


class ClaimsPart:
    """The part of the store that workers ask."""

    _tables: Tables

    async def claim(
        self, worker: str, job_ids: Sequence[str], tasks: Sequence[str], *, now: datetime | None = None
    ) -> list[Claim]:
        """queued -> running for rows by id."""
        moment = self._tables.now(now)
        found = [self._tables.jobs[job_id] for job_id in dict.fromkeys(job_ids) if job_id in self._tables.jobs]
        return [
            _start(row, worker, moment)
            for row in found
            if self._may_run(row, worker, tasks, moment) and row.crashes < CRASHES_BEFORE_ISOLATION
        ]

    async def draw(
        self,
        worker: str,
        lanes: Sequence[LaneKey],
        tasks: Sequence[str],
        limit: int,
        *,
        queued_before: Mapping[LaneKey, datetime] | None = None,
        isolated: bool = False,
        now: datetime | None = None,
    ) -> list[Claim]:
        """queued -> running for the oldest rows of lanes; a lane that `queued_before` leaves out gives none."""
        moment = self._tables.now(now)
        found = [
            (lanes.index(row.lane), row.queued_at, row.id)
            for row in self._tables.jobs.values()
            if self._may_run(row, worker, tasks, moment)
            and (row.crashes >= CRASHES_BEFORE_ISOLATION) == isolated
            and row.lane in lanes
            and row.queued_at is not None
            and (queued_before is None or (row.lane in queued_before and row.queued_at < queued_before[row.lane]))
        ]
        return [_start(self._tables.jobs[place[2]], worker, moment) for place in sorted(found)[: max(0, limit)]]

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        """End epochs by token; all or none."""
        moment = self._tables.now(now)
        for one in settlements:
            refuse_unstorable(one.result, one.progress)
            if one.error is not None:
                refuse_unstorable(one.error.type, one.error.message, one.error.traceback)
        return [self._settle(one, moment) for one in settlements]

    def _settle(self, ending: Settlement, now: datetime) -> Settled:
        row = self._tables.jobs.get(ending.id)
        token = (State.RUNNING, ending.epoch, ending.worker)
        if row is None or (row.state, row.epoch, row.worker) != token:
            return Settled(ending.id, ending.epoch, self._already(ending))
        state = end(self._tables, row, ending, now)
        return Settled(ending.id, ending.epoch, state, row.ticket() if state is State.QUEUED else None)

    def _already(self, ending: Settlement) -> State | None:
        """My own first try made it, or somebody else's token did."""
        closed = self._tables.closed.get((ending.id, ending.epoch))
        if closed is None or (closed.attempt.worker, closed.attempt.outcome) != (ending.worker, ending.outcome):
            return None
        return closed.state

    def _may_run(self, row: Row, worker: str, tasks: Collection[str], now: datetime) -> bool:
        queue = self._tables.queues.get(row.asked.queue)
        return (
            row.state is State.QUEUED
            and row.asked.task in tasks
            and (row.expires_at is None or row.expires_at > now)
            and not (queue is not None and queue.paused)
            and self._tables.alive(worker)
        )


def _start(row: Row, worker: str, now: datetime) -> Claim:
    row.state, row.reason, row.progress = State.RUNNING, None, None
    row.worker, row.epoch, row.attempt = worker, row.epoch + 1, row.attempt + 1
    row.started_at = now
    row.deadline_at = now + timedelta(seconds=row.asked.timeout + DEADLINE_SLACK_SECONDS)
    return row.claim()
