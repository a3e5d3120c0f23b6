"""Jobs: insert, look, cancel, replay, purge."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from taskflow.adapters.sql.sqlite.database import Database, array
from taskflow.adapters.sql.sqlite.many import write_many
from taskflow.adapters.sql.sqlite.move import close_waiting
from taskflow.adapters.sql.sqlite.rows import (
    DONE_DOCUMENT,
    LIVE_DOCUMENT,
    attempt_of,
    instant,
    job_of,
    ticket_of,
)
from taskflow.adapters.sql.tables import from_micros, to_micros
from taskflow.core.errors import Conflict, DataRejected
from taskflow.core.job import Attempt, Job, Lane, LaneKey, NewJob, State, Ticket
from taskflow.core.limits import IDEMPOTENCY_SECONDS
from taskflow.ports.store import Inserted, JobQuery

INSERT: Final = """
INSERT INTO jobs (id, tenant, task, queue, lane, priority, runs_in, state, payload, attempt, max_attempts, run, epoch,
    crashes, interruptions, timeout, run_at, expires_at, tags, metadata, idempotency_key, created_at, attempt_base,
    snoozes, queued_at)
VALUES {rows}"""
ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 1, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)"
TAKE_KEY: Final = """
INSERT INTO idempotency (tenant, route, key, fingerprint, job_id, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, route, key) DO UPDATE SET fingerprint = excluded.fingerprint, job_id = excluded.job_id,
    created_at = excluded.created_at, expires_at = excluded.expires_at
WHERE idempotency.expires_at <= excluded.created_at
RETURNING job_id"""
KEY_OWNER: Final = """
SELECT job_id, fingerprint, coalesce(jobs.state, finished.state) AS state,
    coalesce(jobs.created_at, finished.created_at) AS created_at, coalesce(jobs.run_at, finished.run_at) AS run_at
FROM idempotency AS taken LEFT JOIN jobs ON jobs.id = job_id LEFT JOIN finished ON finished.id = job_id
WHERE taken.tenant = ? AND route = ? AND key = ?"""
ONE: Final = f"""
SELECT {LIVE_DOCUMENT} FROM jobs WHERE id = ?1 AND tenant = ?2
UNION ALL SELECT {DONE_DOCUMENT} FROM finished WHERE id = ?1 AND tenant = ?2"""
ATTEMPTS: Final = "SELECT * FROM attempts WHERE job_id = ? ORDER BY epoch"
CANCEL: Final = """
UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?) WHERE id = ? AND tenant = ? AND state <> 'failed'
RETURNING state"""
REPLAY: Final = """
UPDATE jobs SET state = 'queued', reason = 'replayed', run = run + 1, attempt_base = attempt, crashes = 0,
    interruptions = 0, snoozes = 0, cancel_requested_at = NULL, expires_at = NULL, run_at = NULL, progress = NULL,
    error = NULL, finished_at = NULL, started_at = NULL, worker_id = NULL, payload = coalesce(?, payload), queued_at = ?
WHERE id = ? AND tenant = ? AND state = 'failed'
RETURNING id, queue, lane, runs_in, queued_at"""
PROGRESS: Final = "UPDATE jobs SET progress = ? WHERE id = ? AND epoch = ? AND worker_id = ? AND state = 'running'"
PURGE: Final = """
DELETE FROM jobs WHERE tenant = ? AND state = 'failed' AND id IN (SELECT value FROM json_each(?)) RETURNING id"""
DONE_STATES: Final = frozenset({State.SUCCEEDED, State.CANCELLED, State.EXPIRED})
LIVE_STATES: Final = frozenset(State) - DONE_STATES
SIDE_TABLES: Final = ("attempts", "idempotency", "log_segments", "artifacts")


class JobsPart:
    """The part of the store that people and programs ask."""

    _db: Database

    async def insert(self, jobs: Sequence[NewJob], *, now: datetime | None = None) -> list[Inserted]:
        """Store a batch, all or none."""
        return await self._db.write(lambda connection: _insert(connection, jobs, self._db.now(now)))

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """One job with its attempts."""
        return await self._db.read(lambda connection: one(connection, tenant, job_id))

    async def age(self, moment: datetime, *, now: datetime | None = None) -> float:
        """Seconds since an instant."""
        return (instant(self._db.now(now)) - moment).total_seconds()

    async def find(self, query: JobQuery) -> list[Job]:
        """Jobs by filter, one page."""
        statement, values = _find(query)
        return await self._db.read(
            lambda connection: [job_of(row) for row in connection.execute(statement, values).fetchall()]
        )

    async def cancel(self, tenant: str, job_id: str, *, now: datetime | None = None) -> Job | None:
        """Ask for the end of a job."""

        def work(connection: sqlite3.Connection) -> Job | None:
            moment = self._db.now(now)
            row = connection.execute(CANCEL, (moment, job_id, tenant)).fetchone()
            if row and row["state"] != State.RUNNING:
                close_waiting(connection, [job_id], State.CANCELLED, "cancelled", moment)
            return one(connection, tenant, job_id)

        return await self._db.write(work)

    async def replay(
        self, tenant: str, job_id: str, payload: str | None = None, *, now: datetime | None = None
    ) -> tuple[Job, Ticket] | None:
        """Run a failed job again."""

        def work(connection: sqlite3.Connection) -> tuple[Job, Ticket] | None:
            row = connection.execute(REPLAY, (payload, self._db.now(now), job_id, tenant)).fetchone()
            job = one(connection, tenant, job_id)
            if job is None:
                return None
            if row is None:
                raise Conflict(f"job {job_id} is {job.state}: only a failed job can be replayed")
            return job, ticket_of(row)

        return await self._db.write(work)

    async def purge(self, tenant: str, job_ids: Sequence[str]) -> list[str]:
        """Delete failed jobs."""

        def work(connection: sqlite3.Connection) -> list[str]:
            gone = [row["id"] for row in connection.execute(PURGE, (tenant, array(job_ids))).fetchall()]
            delete_sides(connection, gone)
            return gone

        return await self._db.write(work)

    async def set_progress(self, progress: Sequence[tuple[str, int, str, str]]) -> None:
        """Write how far runs are."""
        rows = sorted((text, job_id, epoch, worker) for job_id, epoch, worker, text in progress)
        await self._db.write(lambda connection: connection.executemany(PROGRESS, rows).rowcount)


def one(connection: sqlite3.Connection, tenant: str, job_id: str) -> Job | None:
    """A job with its attempts; a running one shows its open attempt, too."""
    row = connection.execute(ONE, (job_id, tenant)).fetchone()
    if row is None:
        return None
    attempts = [attempt_of(closed) for closed in connection.execute(ATTEMPTS, (job_id,)).fetchall()]
    if row["state"] == State.RUNNING:
        attempts.append(
            Attempt(
                epoch=row["epoch"],
                number=row["attempt"],
                started_at=instant(row["started_at"]),
                finished_at=None,
                outcome=None,
                error=None,
                worker=row["worker_id"],
            )
        )
    return job_of(row, tuple(attempts))


def delete_sides(connection: sqlite3.Connection, job_ids: Sequence[str]) -> list[str]:
    """Delete what hangs on jobs; returns the objects that no row names any more."""
    if not job_ids:
        return []
    ids = array(job_ids)
    mine = "job_id IN (SELECT value FROM json_each(?))"
    named = f"SELECT object FROM artifacts WHERE {mine} UNION SELECT object FROM log_segments WHERE {mine}"
    objects = [row["object"] for row in connection.execute(named, (ids, ids)).fetchall()]
    for table in SIDE_TABLES:
        connection.execute(f"DELETE FROM {table} WHERE {mine}", (ids,))
    still = {
        row["object"]
        for row in connection.execute(
            "SELECT object FROM log_segments WHERE object IN (SELECT value FROM json_each(?))", (array(objects),)
        ).fetchall()
    }
    return [name for name in objects if name not in still]


def _insert(connection: sqlite3.Connection, jobs: Sequence[NewJob], now: int) -> list[Inserted]:
    inserted: list[Inserted] = []
    rows: list[tuple[Any, ...]] = []
    for job in jobs:
        key = job.idempotency
        if key:
            values = (
                job.tenant,
                key.route,
                key.key,
                key.fingerprint,
                job.id,
                now,
                now + int(IDEMPOTENCY_SECONDS * 1e6),
            )
            if connection.execute(TAKE_KEY, values).fetchone() is None:
                inserted.append(_first(connection.execute(KEY_OWNER, values[:3]).fetchone(), inserted))
                continue
        run_at = to_micros(job.run_at) if job.delay is None else now + round(job.delay * 1e6)
        due = run_at is None or run_at <= now
        state, lane = State.QUEUED if due else State.SCHEDULED, Lane.of(job.priority)
        rows.append(
            (
                job.id,
                job.tenant,
                job.task,
                job.queue,
                lane,
                job.priority,
                job.runs_in,
                state,
                job.payload,
                job.max_attempts,
                job.timeout,
                run_at,
                to_micros(job.expires_at),
                job.tags,
                job.metadata,
                key.key if key else None,
                now,
                now if due else None,
            )
        )
        inserted.append(
            Inserted(
                job_id=job.id,
                created=True,
                state=state,
                created_at=instant(now),
                run_at=from_micros(run_at),
                ticket=Ticket(job.id, LaneKey(job.queue, lane), job.runs_in, instant(now)) if due else None,
            )
        )
    write_many(connection, INSERT, ROW, rows)
    return inserted


def _first(owner: sqlite3.Row, batch: Sequence[Inserted]) -> Inserted:
    """What a submit is answered whose key was there already: its owner may be an earlier row of the same batch."""
    if owner["state"] is None:
        for before in batch:
            if before.job_id == owner["job_id"]:
                return before._replace(created=False, ticket=None, fingerprint=owner["fingerprint"])
        raise DataRejected(f"the key belongs to job {owner['job_id']}, which is gone: use another key")
    return Inserted(
        job_id=owner["job_id"],
        created=False,
        state=State(owner["state"]),
        created_at=instant(owner["created_at"]),
        run_at=from_micros(owner["run_at"]),
        fingerprint=owner["fingerprint"],
    )


def _find(query: JobQuery) -> tuple[str, list[Any]]:
    where, values = ["tenant = ?"], [query.tenant]
    for column, wanted in (("task", query.task), ("queue", query.queue)):
        if wanted is not None:
            where.append(f"{column} = ?")
            values.append(wanted)
    if query.tag is not None:
        where.append("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)")
        values.append(query.tag)
    if query.error_type is not None:
        where.append("error ->> '$[0]' = ?")
        values.append(query.error_type)
    edges: list[Any] = values
    if query.created_after is not None:
        where.append("created_at >= ?")
        edges.append(to_micros(query.created_after))
    if query.created_before is not None:
        where.append("created_at < ?")
        edges.append(to_micros(query.created_before))
    if query.after is not None:
        where.append(f"(created_at, id) {'>' if query.ascending else '<'} (?, ?)")
        edges.extend((to_micros(query.after[0]), query.after[1]))
    order = "ASC" if query.ascending else "DESC"
    condition = " AND ".join(where)
    # Left to itself the planner walks the list of all jobs for the few that failed.
    live = "jobs INDEXED BY ix_jobs_failed" if query.states == {State.FAILED} else "jobs"
    # Each side is cut before they are merged, so that a page costs two index ranges.
    sides = [
        f"SELECT * FROM (SELECT {columns} FROM {table} WHERE {condition}{among} ORDER BY created_at {order}, id {order} LIMIT ?)"
        for columns, table, held in ((LIVE_DOCUMENT, live, LIVE_STATES), (DONE_DOCUMENT, "finished", DONE_STATES))
        if (among := _among(query.states, held)) is not None
    ]
    statement = f"{' UNION ALL '.join(sides)} ORDER BY created_at {order}, id {order} LIMIT ?"
    return statement, [*[*values, query.limit] * len(sides), query.limit]


def _among(wanted: frozenset[State], held: frozenset[State]) -> str | None:
    """The condition on a table's states, `None` where it holds none of them: as literals, or no partial index fits."""
    if not wanted or wanted >= held:
        return ""
    states = ", ".join(f"'{state}'" for state in sorted(wanted & held))
    return None if not states else f" AND state {'IN (' + states + ')' if ',' in states else '= ' + states}"
