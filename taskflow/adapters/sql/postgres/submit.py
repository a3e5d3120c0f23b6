"""Jobs: insert, look, cancel, replay, purge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from taskflow.adapters.sql.postgres.database import ASKED_SECONDS, Connection, Database
from taskflow.adapters.sql.postgres.find import page
from taskflow.adapters.sql.postgres.insert import insert
from taskflow.adapters.sql.postgres.move import CLOSE_WAITING
from taskflow.adapters.sql.postgres.rows import (
    CLOCK,
    DONE_DOCUMENT,
    LIVE_DOCUMENT,
    TICKET,
    job_of,
    ticket_of,
)
from taskflow.adapters.sql.postgres.sides import delete_sides
from taskflow.core.errors import Conflict
from taskflow.core.job import Job, NewJob, Ticket
from taskflow.ports.store import Inserted, JobQuery

if TYPE_CHECKING:
    from asyncpg import Record

ATTEMPTS: Final = """
array(SELECT (epoch, number, started_at, finished_at, outcome, error, worker)
    FROM (SELECT epoch, number, started_at, finished_at, outcome, error, worker FROM attempts WHERE job_id = $1
        UNION ALL SELECT epoch, attempt, started_at, NULL, NULL, NULL, worker_id FROM jobs
            WHERE id = $1 AND state = 'running') AS executions
    ORDER BY epoch) AS attempts"""
ONE: Final = f"""
SELECT {LIVE_DOCUMENT}, {ATTEMPTS} FROM jobs WHERE id = $1 AND tenant = $2
UNION ALL SELECT {DONE_DOCUMENT}, {ATTEMPTS} FROM finished WHERE id = $1 AND tenant = $2"""
CANCEL: Final = f"""
WITH {CLOCK},
asked AS MATERIALIZED (
    SELECT id, state FROM jobs WHERE id = $2 AND tenant = $3 AND state <> 'failed' FOR UPDATE),
flagged AS (
    UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, now)
    FROM asked, clock WHERE jobs.id = asked.id AND asked.state = 'running'),
wanted AS (SELECT id, 'cancelled' AS state, now FROM asked, clock WHERE asked.state <> 'running'),
{CLOSE_WAITING}"""
REPLAY: Final = f"""
UPDATE jobs SET state = 'queued', reason = 'replayed', run = run + 1, attempt_base = attempt, crashes = 0,
    interruptions = 0, snoozes = 0, cancel_requested_at = NULL, expires_at = NULL, run_at = NULL, progress = NULL,
    error = NULL, finished_at = NULL, started_at = NULL, worker_id = NULL, payload = coalesce($2, payload),
    queued_at = coalesce($1::timestamptz, clock_timestamp())
WHERE id = $3 AND tenant = $4 AND state = 'failed'
RETURNING {TICKET}"""
PROGRESS: Final = """
WITH asked AS MATERIALIZED (
    SELECT found.id, wanted.progress
    FROM unnest($1::text[], $2::int[], $3::text[], $4::text[]) AS wanted (id, epoch, worker, progress)
    CROSS JOIN LATERAL (SELECT id, epoch, worker_id, state FROM jobs WHERE jobs.id = wanted.id OFFSET 0 FOR UPDATE) AS found
    WHERE found.epoch = wanted.epoch AND found.worker_id = wanted.worker AND found.state = 'running')
UPDATE jobs SET progress = asked.progress FROM asked WHERE jobs.id = asked.id"""
PURGE: Final = """
WITH asked AS MATERIALIZED (
    SELECT id FROM jobs WHERE id = ANY($1::text[]) AND tenant = $2 AND state = 'failed' ORDER BY id FOR UPDATE)
DELETE FROM jobs USING asked WHERE jobs.id = asked.id RETURNING jobs.id"""


class JobsPart:
    """The part of the store that people and programs ask."""

    _db: Database

    async def insert(self, jobs: Sequence[NewJob], *, now: datetime | None = None) -> list[Inserted]:
        """Store a batch, all or none; where the reply is lost, its rows are looked up before anybody is answered."""
        return await insert(self._db, jobs, now)

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """One job with its attempts, in one snapshot."""
        return await self._db.run(lambda connection: one(connection, tenant, job_id), within=ASKED_SECONDS)

    async def age(self, moment: datetime, *, now: datetime | None = None) -> float:
        """Seconds since an instant."""
        told = await self._db.run(lambda connection: self._db.now(connection, now), within=ASKED_SECONDS)
        return (told - moment).total_seconds()

    async def find(self, query: JobQuery) -> list[Job]:
        """Jobs by filter, one page."""
        statement, values = page(query)
        return [job_of(row) for row in await self._db.fetch(statement, *values, within=ASKED_SECONDS)]

    async def cancel(self, tenant: str, job_id: str, *, now: datetime | None = None) -> Job | None:
        """Ask for the end of a job."""

        async def work(connection: Connection) -> Job | None:
            await connection.execute(CANCEL, now, job_id, tenant)
            return await one(connection, tenant, job_id)

        return await self._db.run(work, transaction=True, within=ASKED_SECONDS)

    async def replay(
        self, tenant: str, job_id: str, payload: str | None = None, *, now: datetime | None = None
    ) -> tuple[Job, Ticket] | None:
        """Run a failed job again."""

        async def work(connection: Connection) -> tuple[Job, Ticket] | None:
            row = await connection.fetchrow(REPLAY, now, payload, job_id, tenant)
            job = await one(connection, tenant, job_id)
            if job is None:
                return None
            if row is None:
                raise Conflict(f"job {job_id} is {job.state}: only a failed job can be replayed")
            return job, ticket_of(row)

        return await self._db.run(work, transaction=True, within=ASKED_SECONDS)

    async def purge(self, tenant: str, job_ids: Sequence[str]) -> list[str]:
        """Delete failed jobs."""

        async def work(connection: Connection) -> list[str]:
            gone = [row["id"] for row in await connection.fetch(PURGE, list(job_ids), tenant)]
            await delete_sides(connection, gone)
            return gone

        return await self._db.run(work, transaction=True)

    async def set_progress(self, progress: Sequence[tuple[str, int, str, str]]) -> None:
        """Write how far runs are; of several words of one run the last one counts."""
        last = {(job_id, epoch, worker): text for job_id, epoch, worker, text in progress}
        rows = [(*token, text) for token, text in sorted(last.items())]
        if rows:
            await self._db.fetch(PROGRESS, *(list(column) for column in zip(*rows, strict=True)))


async def one(connection: Connection, tenant: str, job_id: str) -> Job | None:
    """A job with its attempts; a running one shows its open attempt, too."""
    row: Record | None = await connection.fetchrow(ONE, job_id, tenant)
    return None if row is None else job_of(row)
