"""Jobs: insert, look, cancel, replay, purge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from taskflow.core.errors import Conflict, DataRejected
from taskflow.core.job import Attempt, Job, NewJob, State, Ticket
from taskflow.core.limits import IDEMPOTENCY_SECONDS
from taskflow.ports.store import Inserted, JobQuery
from taskflow.testing.memory.tables import Key, Row, Tables, refuse_unstorable

KEY_LASTS: Final = timedelta(seconds=IDEMPOTENCY_SECONDS)


class JobsPart:
    """The part of the store that people and programs ask."""

    _tables: Tables

    async def insert(self, jobs: Sequence[NewJob], *, now: datetime | None = None) -> list[Inserted]:
        """All or none: what may be refused is refused first."""
        moment = self._tables.now(now)
        for job in jobs:
            refuse_unstorable(job.payload, job.tags, job.metadata)
            if not 0 <= job.priority <= 9 or job.id in self._tables.jobs:
                raise DataRejected(f"job {job.id} cannot be stored")
        return [self._insert(job, moment) for job in jobs]

    def _insert(self, job: NewJob, now: datetime) -> Inserted:
        if job.idempotency is not None:
            name = (job.tenant, job.idempotency.route, job.idempotency.key)
            taken = self._tables.keys.get(name)
            if taken is not None and taken.expires_at > now:
                first = self._tables.jobs[taken.job_id]
                return _inserted(first, created=False, fingerprint=taken.fingerprint)
            self._tables.keys[name] = Key(job.idempotency.fingerprint, job.id, now + KEY_LASTS)
        row = Row(
            asked=job,
            state=State.SCHEDULED,
            payload=job.payload,
            created_at=now,
            expires_at=job.expires_at,
            run_at=job.run_at if job.delay is None else now + timedelta(seconds=job.delay),
        )
        if row.run_at is None or row.run_at <= now:
            row.queue(now)
        self._tables.jobs[job.id] = row
        return _inserted(row, created=True)

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """One job with its attempts; a running one shows its open attempt, too."""
        row = self._find(tenant, job_id)
        if row is None:
            return None
        closed = (self._tables.closed.get((job_id, epoch)) for epoch in range(1, row.epoch + 1))
        attempts = [each.attempt for each in closed if each is not None]
        if row.state is State.RUNNING:
            assert row.started_at is not None
            attempts.append(
                Attempt(
                    epoch=row.epoch,
                    number=row.attempt,
                    started_at=row.started_at,
                    finished_at=None,
                    outcome=None,
                    error=None,
                    worker=row.worker or "",
                )
            )
        return row.document(tuple(attempts))

    async def age(self, moment: datetime, *, now: datetime | None = None) -> float:
        """Seconds since an instant."""
        return (self._tables.now(now) - moment).total_seconds()

    async def find(self, query: JobQuery) -> list[Job]:
        """Jobs by filter, one page."""
        found = [row for row in self._tables.jobs.values() if _fits(row, query)]
        found.sort(key=_place, reverse=not query.ascending)
        return [row.document() for row in found[: query.limit]]

    async def cancel(self, tenant: str, job_id: str, *, now: datetime | None = None) -> Job | None:
        """At once unless it runs: then its run is told, and whatever ends the run knows."""
        row, moment = self._find(tenant, job_id), self._tables.now(now)
        if row is not None and not row.state.terminal:
            row.cancel_requested_at = row.cancel_requested_at or moment
            if row.state is not State.RUNNING:
                row.close_waiting(State.CANCELLED, moment)
        return await self.get(tenant, job_id)

    async def replay(
        self, tenant: str, job_id: str, payload: str | None = None, *, now: datetime | None = None
    ) -> tuple[Job, Ticket] | None:
        """Epochs and attempts go on; everything that would count against the new run is reset."""
        row = self._find(tenant, job_id)
        if row is None:
            return None
        if row.state is not State.FAILED:
            raise Conflict(f"job {job_id} is {row.state}: only a failed job can be replayed")
        row.payload = row.payload if payload is None else payload
        row.run, row.attempts_before_run = row.run + 1, row.attempt
        row.crashes = row.interruptions = row.snoozes = 0
        row.cancel_requested_at = row.expires_at = row.run_at = row.finished_at = row.started_at = None
        row.worker = row.progress = row.error = None
        ticket = row.queue(self._tables.now(now), "replayed")
        job = await self.get(tenant, job_id)
        assert job is not None
        return job, ticket

    async def purge(self, tenant: str, job_ids: Sequence[str]) -> list[str]:
        """Delete failed jobs."""
        found = [self._find(tenant, job_id) for job_id in dict.fromkeys(job_ids)]
        gone = [row.id for row in found if row is not None and row.state is State.FAILED]
        self._tables.forget(set(gone))
        return gone

    async def set_progress(self, progress: Sequence[tuple[str, int, str, str]]) -> None:
        """Write how far runs are, by token."""
        for job_id, epoch, worker, text in progress:
            row = self._tables.jobs.get(job_id)
            if row is not None and (row.state, row.epoch, row.worker) == (State.RUNNING, epoch, worker):
                row.progress = text

    def _find(self, tenant: str, job_id: str) -> Row | None:
        row = self._tables.jobs.get(job_id)
        return row if row is not None and row.asked.tenant == tenant else None


def _inserted(row: Row, *, created: bool, fingerprint: str | None = None) -> Inserted:
    return Inserted(
        job_id=row.id,
        created=created,
        state=row.state,
        created_at=row.created_at,
        run_at=row.run_at,
        fingerprint=fingerprint,
        ticket=row.ticket() if created and row.state is State.QUEUED else None,
    )


def _place(row: Row) -> tuple[datetime, str]:
    return row.created_at, row.id


def _fits(row: Row, query: JobQuery) -> bool:
    after = query.after
    return (
        row.asked.tenant == query.tenant
        and (not query.states or row.state in query.states)
        and query.task in (None, row.asked.task)
        and query.queue in (None, row.asked.queue)
        and (query.tag is None or query.tag in json.loads(row.asked.tags))
        and (query.error_type is None or (row.error is not None and row.error.type == query.error_type))
        and (query.created_after is None or row.created_at >= query.created_after)
        and (query.created_before is None or row.created_at < query.created_before)
        and (after is None or (_place(row) > after if query.ascending else _place(row) < after))
    )
