"""Insert: a batch in one statement, and what becomes of it where the reply is lost.

Job ids are made by whoever submits, so a batch may be sent again: a row that is there was stored by the first try.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from taskflow.adapters.sql.postgres.database import Connection, Database
from taskflow.adapters.sql.postgres.errors import Lost
from taskflow.adapters.sql.postgres.rows import CLOCK, STATES, ticket_of
from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.core.job import Lane, LaneKey, NewJob, State, Ticket
from taskflow.core.limits import IDEMPOTENCY_SECONDS
from taskflow.ports.store import Inserted

if TYPE_CHECKING:
    from asyncpg import Record

ANSWER_SECONDS: Final = 1.9
"""Whoever submits is answered within 2 s, whatever the database does."""
FIRST_SECONDS: Final = 1.2
AGAIN_SECONDS: Final = (0.02, 0.1)
DUE: Final = "CASE WHEN delay IS NULL THEN wished_at ELSE now + make_interval(secs => delay) END AS run_at"
ASKED: Final = f"""
asked AS (
    SELECT *, {DUE}
    FROM clock, unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::smallint[], $8::text[],
        $9::text[], $10::int[], $11::float8[], $12::timestamptz[], $13::float8[], $14::timestamptz[], $15::text[],
        $16::text[], $17::text[])
    AS asked (id, tenant, task, queue, lane, priority, runs_in, payload, max_attempts, timeout, wished_at, delay,
        expires_at, tags, metadata, key))"""
STORE: Final = """
INSERT INTO jobs (id, tenant, task, queue, lane, priority, runs_in, state, payload, attempt, max_attempts, run, epoch,
    crashes, interruptions, timeout, run_at, expires_at, tags, metadata, idempotency_key, created_at, attempt_base,
    snoozes, queued_at)
SELECT id, tenant, task, queue, lane, priority, runs_in,
    CASE WHEN run_at > now THEN 'scheduled' ELSE 'queued' END, payload, 0, max_attempts, 1, 0,
    0, 0, timeout, run_at, expires_at, tags, metadata, key, now, 0,
    0, CASE WHEN run_at > now THEN NULL ELSE now END
FROM asked"""
STORED: Final = "RETURNING id, state, created_at, run_at"
STORED_BEFORE: Final = "ON CONFLICT (id) DO NOTHING"
KEYLESS: Final = f"WITH {CLOCK}, {ASKED} {STORE} ORDER BY id"
ALIKE: Final = f"""
WITH {CLOCK},
asked AS (
    SELECT *, NULL::text AS key, {DUE}
    FROM clock, unnest($2::text[], $3::text[]) AS each (id, payload),
        (VALUES ($4::text, $5::text, $6::text, $7::smallint, $8::smallint, $9::text, $10::int, $11::float8,
            $12::timestamptz, $13::float8, $14::timestamptz, $15::text, $16::text))
        AS all_of_them (tenant, task, queue, lane, priority, runs_in, max_attempts, timeout, wished_at, delay, expires_at,
            tags, metadata)),
stored AS ({STORE} ORDER BY id RETURNING state, created_at, run_at)
SELECT count(*), min(state), min(created_at), min(run_at) FROM stored"""
"""For jobs that differ in their payloads only, as most batches do: each other array costs the driver 0.2 µs a job,
and each column of an answer costs some, too."""
KEYED: Final = f"""
WITH {CLOCK}, {ASKED},
taken AS (
    INSERT INTO idempotency (tenant, route, key, fingerprint, job_id, created_at, expires_at)
    SELECT tenant, route, key, fingerprint, id, now, now + make_interval(secs => {IDEMPOTENCY_SECONDS})
    FROM clock, unnest($18::text[], $19::text[], $20::text[], $21::text[], $22::text[])
        AS wanted (tenant, route, key, fingerprint, id)
    ORDER BY tenant, route, key
    ON CONFLICT (tenant, route, key) DO UPDATE SET fingerprint = excluded.fingerprint, job_id = excluded.job_id,
        created_at = excluded.created_at, expires_at = excluded.expires_at
    WHERE idempotency.expires_at <= excluded.created_at
    RETURNING job_id)
{STORE} WHERE key IS NULL OR id IN (SELECT job_id FROM taken) ORDER BY id"""
OWNERS: Final = """
SELECT asked.tenant, asked.route, asked.key, job_id AS id, fingerprint, coalesce(live.state, over.state) AS state,
    coalesce(live.created_at, over.created_at) AS created_at, coalesce(live.run_at, over.run_at) AS run_at,
    live.queue, live.lane, live.runs_in, live.queued_at
FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (tenant, route, key)
CROSS JOIN LATERAL (SELECT job_id, fingerprint FROM idempotency AS taken
    WHERE taken.tenant = asked.tenant AND taken.route = asked.route AND taken.key = asked.key OFFSET 0) AS taken
LEFT JOIN LATERAL (SELECT state, created_at, run_at, queue, lane, runs_in, queued_at FROM jobs
    WHERE jobs.id = job_id OFFSET 0) AS live ON true
LEFT JOIN LATERAL (SELECT state, created_at, run_at FROM finished WHERE finished.id = job_id OFFSET 0) AS over ON true"""
OVER: Final = """
SELECT id, state, queue, lane, runs_in, created_at, run_at, NULL::timestamptz AS queued_at
FROM finished WHERE id = ANY($1::text[])"""
LIVE: Final = """
SELECT id, state, queue, lane, runs_in, created_at, run_at, queued_at FROM jobs WHERE id = ANY($1::text[])"""
TAKE_BACK: Final = "DELETE FROM jobs WHERE id = ANY($1::text[])"

Key = tuple[str, str, str]
_shared = attrgetter(*(name for name in NewJob._fields if name not in {"id", "payload"}))
"""All of a job but its id and payload."""


async def insert(database: Database, jobs: Sequence[NewJob], now: datetime | None) -> list[Inserted]:
    """Store a batch, all or none; a lost reply is made up for on another connection.

    Raises:
        DataRejected: some row can never be stored; nothing was.
        StoreUnavailable: it is not known to be stored.
    """
    if not jobs:
        return []
    end = time.monotonic() + ANSWER_SECONDS
    try:
        return await database.run(
            lambda connection: _insert(connection, jobs, now, again=False), kept=True, within=FIRST_SECONDS
        )
    except Lost as lost:
        return await _made_up(database, jobs, now, end, lost)


async def _made_up(
    database: Database, jobs: Sequence[NewJob], now: datetime | None, end: float, lost: Lost
) -> list[Inserted]:
    """Whoever waits for the row of a first try that is still on its way learns what became of it, so that a second try
    neither doubles nor loses a job."""
    if isinstance(lost.__cause__, TimeoutError):
        # The next connection may be as dead as that one was: by a word this is known while there is time for a third.
        with suppress(StoreUnavailable):
            await database.fetch("SELECT 1", within=(end - time.monotonic()) / 2)
    while (left := end - time.monotonic()) > 0:
        try:
            return await database.run(
                lambda connection: _insert(connection, jobs, now, again=True),
                transaction=True,
                within=left,
                acquire=left,
            )
        except DataRejected as refused:
            # The first try has met the same refusal, or some of its rows are there: it is not for halving.
            raise lost from refused
        except StoreUnavailable:
            await asyncio.sleep(min(left, random.uniform(*AGAIN_SECONDS)))
    raise lost


async def _insert(
    connection: Connection, jobs: Sequence[NewJob], now: datetime | None, *, again: bool
) -> list[Inserted]:
    if not again and _alike(jobs):
        return await _insert_alike(connection, jobs, now)
    first: dict[Key, NewJob] = {}
    for job in jobs:
        if key := _key(job):
            first.setdefault(key, job)
    taken = [(*key, job.idempotency.fingerprint, job.id) for key, job in first.items() if job.idempotency]
    statement = f"{KEYED if taken else KEYLESS} {STORED_BEFORE if again else ''} {STORED}"
    rows = await connection.fetch(statement, now, *_columns(jobs), *_turned(taken))
    new = {job_id: (state, created_at, run_at) for job_id, state, created_at, run_at in rows}
    stored = {job.id: _new(job, *new[job.id]) for job in jobs if job.id in new}
    if again:
        stored |= await _found(connection, jobs, stored)
    owned = sorted({key for job in jobs if job.id not in stored and (key := _key(job))})
    owners = {
        (row["tenant"], row["route"], row["key"]): row
        for row in (await connection.fetch(OWNERS, *_turned(owned)) if owned else ())
    }
    return [_answer(job, stored, owners) for job in jobs]


def _alike(jobs: Sequence[NewJob]) -> bool:
    """Whether they have no keys and differ in their payloads only."""
    shared = _shared(jobs[0])
    return jobs[0].idempotency is None and all(_shared(job) == shared for job in jobs)


async def _insert_alike(connection: Connection, jobs: Sequence[NewJob], now: datetime | None) -> list[Inserted]:
    one = jobs[0]
    [(count, state, created_at, run_at)] = await connection.fetch(
        ALIKE,
        now,
        [job.id for job in jobs],
        [job.payload for job in jobs],
        one.tenant,
        one.task,
        one.queue,
        Lane.of(one.priority),
        one.priority,
        one.runs_in,
        one.max_attempts,
        one.timeout,
        one.run_at,
        one.delay,
        one.expires_at,
        one.tags,
        one.metadata,
    )
    if count != len(jobs):
        raise StoreUnavailable(
            f"{len(jobs) - count} of {len(jobs)} jobs went missing in their statement; send them again"
        )
    return [_new(job, state, created_at, run_at) for job in jobs]


async def _found(connection: Connection, jobs: Sequence[NewJob], again: Collection[str]) -> dict[str, Inserted]:
    """Rows of a first try that was written after all. One that ran and was over before the second try is not new."""
    ids = [job.id for job in jobs]
    over = {row["id"]: row for row in await connection.fetch(OVER, ids)}
    doubled = [job_id for job_id in over if job_id in again]
    if doubled:
        await connection.execute(TAKE_BACK, doubled)
    live = {row["id"]: row for row in await connection.fetch(LIVE, ids)}
    return {job_id: _inserted(row, created=True) for job_id, row in (live | over).items()}


def _answer(job: NewJob, stored: dict[str, Inserted], owners: dict[Key, Record]) -> Inserted:
    found = stored.get(job.id)
    if found is not None:
        return found
    key = _key(job)
    owner = owners.get(key) if key else None
    if owner is None:
        raise StoreUnavailable(f"job {job.id} went missing between two statements; send it again")
    if owner["state"] is None:
        raise DataRejected(f"the key belongs to job {owner['id']}, which is gone: use another key")
    mine = owner["id"] == job.id
    return _inserted(owner, created=mine)._replace(fingerprint=None if mine else owner["fingerprint"])


def _new(job: NewJob, state: str, created_at: datetime, run_at: datetime | None) -> Inserted:
    """What is not asked again: the row is as the job said. It was queued when it was made, if it was."""
    if state != State.QUEUED:
        return Inserted(job.id, True, STATES[state], created_at, run_at)
    ticket = Ticket(job.id, LaneKey(job.queue, Lane.of(job.priority)), job.runs_in, created_at)
    return Inserted(job.id, True, State.QUEUED, created_at, run_at, None, ticket)


def _inserted(row: Record, *, created: bool) -> Inserted:
    state = STATES[row["state"]]
    return Inserted(
        job_id=row["id"],
        created=created,
        state=state,
        created_at=row["created_at"],
        run_at=row["run_at"],
        ticket=ticket_of(row) if created and state is State.QUEUED else None,
    )


def _key(job: NewJob) -> Key | None:
    return (job.tenant, job.idempotency.route, job.idempotency.key) if job.idempotency else None


def _columns(jobs: Sequence[NewJob]) -> list[list[Any]]:
    columns = _turned(
        [
            (
                job.id,
                job.tenant,
                job.task,
                job.queue,
                Lane.of(job.priority),
                job.priority,
                job.runs_in,
                job.payload,
                job.max_attempts,
                job.timeout,
                job.run_at,
                job.delay,
                job.expires_at,
                job.tags,
                job.metadata,
                job.idempotency.key if job.idempotency else None,
            )
            for job in jobs
        ]
    )
    # `unnest` fills up what is shorter than the others.
    return [column if any(value is not None for value in column) else [] for column in columns]


def _turned(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows as columns, for `unnest`."""
    return [list(column) for column in zip(*rows, strict=True)]
