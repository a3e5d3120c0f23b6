"""Workers and the catalogue: who is there, and what they can run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import orjson

from taskflow.adapters.sql.postgres.database import ASKED_SECONDS, Connection, Database
from taskflow.adapters.sql.postgres.rescue import MINE, NAMED, rescue, unpark
from taskflow.adapters.sql.postgres.rows import CLOCK
from taskflow.adapters.sql.tables import LEASE
from taskflow.core.job import Outcome, RunsIn, Ticket
from taskflow.core.limits import DEFAULT_TENANT
from taskflow.ports.store import Beat, Held, QueueInfo, TaskInfo, WorkerInfo, Workers

REGISTER: Final = f"""
WITH {CLOCK}
INSERT INTO workers (id, host, pid, state, queues, tasks, slots, lease, started_at, heartbeat_at)
SELECT $2, $3, $4, 'alive', $5::jsonb, $6::jsonb, $7::jsonb, $8::float8, now, now FROM clock"""
WORKERS: Final = f"""
SELECT id, host, pid, queues, tasks, slots, {LEASE} AS lease, state, started_at, heartbeat_at FROM workers
WHERE state = 'alive' OR heartbeat_at >= clock_timestamp() - interval '1 day'
ORDER BY started_at DESC, id DESC LIMIT 1000"""
# Not the age of a difference: an instant without end cannot be subtracted.
BEAT: Final = f"""
WITH {CLOCK},
me AS (UPDATE workers SET heartbeat_at = now FROM clock WHERE id = $2 AND state = 'alive' RETURNING id, now)
SELECT jobs.id, epoch, cancel_requested_at IS NOT NULL AS cancel,
    (extract(epoch FROM me.now) - extract(epoch FROM coalesce(jobs.started_at, jobs.created_at)))::float8 AS age
FROM me LEFT JOIN jobs ON worker_id = me.id AND jobs.state = 'running'"""
STOP: Final = """
UPDATE workers SET state = 'stopped', heartbeat_at = coalesce($1::timestamptz, clock_timestamp())
WHERE id = $2 AND state = 'alive'"""
PUBLISH: Final = f"""
WITH {CLOCK}
INSERT INTO tasks (tenant, name, queue, runs_in, schema, timeout, max_attempts, description, updated_at)
SELECT $2, asked.*, now FROM clock, unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::float8[], $8::int[],
    $9::text[]) AS asked (name, queue, runs_in, schema, timeout, max_attempts, description)
ORDER BY asked.name
ON CONFLICT (tenant, name) DO UPDATE SET queue = excluded.queue, runs_in = excluded.runs_in, schema = excluded.schema,
    timeout = excluded.timeout, max_attempts = excluded.max_attempts, description = excluded.description,
    updated_at = excluded.updated_at"""
TASKS: Final = """
SELECT name, queue, runs_in, schema, timeout, max_attempts, description, updated_at,
    (SELECT count(*) FROM workers WHERE state = 'alive' AND tasks ? name) AS live_workers
FROM tasks AS catalogue ORDER BY name"""
QUEUE: Final = """
INSERT INTO queues (tenant, name, paused) SELECT $1, name, false FROM unnest($2::text[]) AS asked (name) ORDER BY name
ON CONFLICT DO NOTHING"""
PAUSE: Final = "UPDATE queues SET paused = $1, pause_reason = $2 WHERE name = $3 RETURNING name"
DEPTH_SHOWN: Final = 10_000
UNPARKED_AT_ONCE: Final = 10_000
QUEUES: Final = f"""
SELECT name, paused, pause_reason,
    (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND queue = queues.name LIMIT {DEPTH_SHOWN + 1})
        AS counted) AS depth,
    (SELECT count(*) FROM jobs WHERE state = 'running' AND queue = queues.name) AS running,
    (SELECT (extract(epoch FROM clock_timestamp()) - extract(epoch FROM min(first.queued_at)))::float8
        FROM unnest('{{0,1,2}}'::smallint[]) AS lanes (lane) CROSS JOIN LATERAL (
            SELECT queued_at FROM jobs WHERE state = 'queued' AND queue = queues.name AND lane = lanes.lane
            ORDER BY queued_at LIMIT 1) AS first) AS oldest
FROM queues ORDER BY name"""


class WorkersPart:
    """The part of the store that workers sign on to."""

    _db: Database

    async def register(self, worker: WorkerInfo, *, now: datetime | None = None) -> list[Ticket]:
        """Add a worker; rows that waited for its tasks are queued again, those past 10,000 by the next sweeps."""

        async def work(connection: Connection) -> list[Ticket]:
            await connection.execute(
                REGISTER,
                now,
                worker.id,
                worker.host,
                worker.pid,
                _json(list(worker.queues)),
                _json(list(worker.tasks)),
                _json(dict(worker.slots)),
                worker.lease,
            )
            return await unpark(connection, now, UNPARKED_AT_ONCE)

        return await self._db.run(work, transaction=True)

    async def beat(self, worker: str, *, now: datetime | None = None) -> Beat:
        """Prove life, hear what is held."""
        rows = await self._db.fetch(BEAT, now, worker)
        held = [Held(row["id"], row["epoch"], row["cancel"], row["age"]) for row in rows if row["id"] is not None]
        return Beat(bool(rows), held)

    async def release(
        self, worker: str, runs: Sequence[tuple[str, int]], *, now: datetime | None = None
    ) -> list[Ticket]:
        """Give rows back uncharged."""
        if not runs:
            return []
        ids, epochs = [run[0] for run in runs], [run[1] for run in runs]
        return (await rescue(self._db, NAMED, Outcome.INTERRUPTED, None, now, worker, ids, epochs)).tickets

    async def stop(self, worker: str, *, now: datetime | None = None) -> list[Ticket]:
        """Mark a clean end."""

        async def work(connection: Connection) -> list[Ticket]:
            await connection.execute(STOP, now, worker)
            return (await rescue(connection, MINE, Outcome.INTERRUPTED, None, now, worker)).tickets

        return await self._db.run(work, transaction=True)

    async def workers(self) -> list[WorkerInfo]:
        """Who is or was there."""
        return [
            WorkerInfo(**{**row, **{name: orjson.loads(row[name]) for name in ("queues", "tasks", "slots")}})
            for row in await self._db.fetch(WORKERS, kept=True, within=ASKED_SECONDS)
        ]

    @asynccontextmanager
    async def heart(self) -> AsyncIterator[Workers]:
        """A connection of its own, on the loop that beats: nothing else can be in its way."""
        heart = Heart(Database(self._db.target, f"{self._db.name}-heart", 1))
        try:
            await heart._db.open()  # noqa: SLF001 - its own kind
            yield heart
        finally:
            await heart._db.close()  # noqa: SLF001 - its own kind


class Heart(WorkersPart):
    """The workers' part of the store, alone."""

    def __init__(self, database: Database) -> None:
        self._db = database


class CataloguePart:
    """The part of the store that knows tasks and queues."""

    _db: Database

    async def publish_tasks(self, tasks: Sequence[TaskInfo], *, now: datetime | None = None) -> None:
        """Insert or update tasks and their queues."""
        by_name = {task.name: task for task in tasks}
        if not by_name:
            return
        rows = [
            (t.name, t.queue, t.runs_in, t.schema, t.timeout, t.max_attempts, t.description) for t in by_name.values()
        ]

        async def work(connection: Connection) -> None:
            await connection.execute(
                PUBLISH, now, DEFAULT_TENANT, *(list(column) for column in zip(*rows, strict=True))
            )
            await connection.execute(QUEUE, DEFAULT_TENANT, sorted({task.queue for task in tasks}))

        await self._db.run(work, transaction=True)

    async def tasks(self) -> list[TaskInfo]:
        """All known tasks."""
        rows = await self._db.fetch(TASKS, within=ASKED_SECONDS)
        return [TaskInfo(**{**row, "runs_in": RunsIn(row["runs_in"])}) for row in rows]

    async def ensure_queues(self, names: Sequence[str]) -> None:
        """Create queues."""
        await self._db.fetch(QUEUE, DEFAULT_TENANT, sorted(set(names)))

    async def queue_names(self) -> dict[str, bool]:
        """Every queue and whether it is paused."""
        rows = await self._db.fetch("SELECT name, paused FROM queues", kept=True, within=ASKED_SECONDS)
        return {row["name"]: row["paused"] for row in rows}

    async def queues(self) -> list[QueueInfo]:
        """Every queue with what stands in it."""
        return [
            QueueInfo(
                name=row["name"],
                paused=row["paused"],
                pause_reason=row["pause_reason"],
                depth=min(row["depth"], DEPTH_SHOWN),
                depth_capped=row["depth"] > DEPTH_SHOWN,
                running=row["running"],
                oldest=None if row["oldest"] is None else max(0.0, row["oldest"]),
            )
            for row in await self._db.fetch(QUEUES, within=ASKED_SECONDS)
        ]

    async def pause(self, queue: str, reason: str | None) -> bool:
        """Stop claims from a queue."""
        return bool(await self._db.fetch(PAUSE, True, reason, queue, within=ASKED_SECONDS))

    async def resume(self, queue: str) -> bool:
        """Allow claims again."""
        return bool(await self._db.fetch(PAUSE, False, None, queue, within=ASKED_SECONDS))


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
