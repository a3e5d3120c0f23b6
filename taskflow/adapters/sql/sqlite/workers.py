"""Workers and the catalogue: who is there, and what they can run."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, Self

import orjson

from taskflow.adapters.sql.sqlite.database import Database, array
from taskflow.adapters.sql.sqlite.rescue import RUNNING, rescue, unpark
from taskflow.adapters.sql.sqlite.rows import instant
from taskflow.adapters.sql.tables import LEASE
from taskflow.core.job import Outcome, RunsIn, Ticket
from taskflow.core.limits import DEFAULT_TENANT
from taskflow.ports.store import Beat, Held, QueueInfo, TaskInfo, WorkerInfo

REGISTER: Final = """
INSERT INTO workers (id, host, pid, state, queues, tasks, slots, lease, started_at, heartbeat_at)
VALUES (?, ?, ?, 'alive', ?, ?, ?, ?, ?8, ?8)"""
WORKERS: Final = f"""
SELECT *, {LEASE} AS seconds FROM workers WHERE state = 'alive' OR heartbeat_at >= ? ORDER BY started_at DESC, id DESC LIMIT 1000"""
BEAT: Final = "UPDATE workers SET heartbeat_at = ? WHERE id = ? AND state = 'alive'"
STOP: Final = "UPDATE workers SET state = 'stopped', heartbeat_at = ? WHERE id = ? AND state = 'alive'"
HELD: Final = """
SELECT id, epoch, cancel_requested_at IS NOT NULL AS cancel, (?1 - coalesce(started_at, created_at)) / 1e6 AS age FROM jobs
WHERE worker_id = ?2 AND state = 'running'"""
PUBLISH: Final = """
INSERT INTO tasks (tenant, name, queue, runs_in, schema, timeout, max_attempts, description, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, name) DO UPDATE SET queue = excluded.queue, runs_in = excluded.runs_in, schema = excluded.schema,
    timeout = excluded.timeout, max_attempts = excluded.max_attempts, description = excluded.description,
    updated_at = excluded.updated_at"""
TASKS: Final = """
SELECT tasks.*, (SELECT count(*) FROM workers, json_each(workers.tasks) AS mine
    WHERE workers.state = 'alive' AND mine.value = tasks.name) AS live_workers
FROM tasks ORDER BY name"""
QUEUE: Final = "INSERT INTO queues (tenant, name, paused) VALUES (?, ?, 0) ON CONFLICT DO NOTHING"
DEPTH_SHOWN: Final = 10_000
ENDED_SHOWN: Final = 86_400_000_000
QUEUES: Final = f"""
SELECT name, paused, pause_reason,
    (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND queue = queues.name LIMIT {DEPTH_SHOWN + 1}))
        AS depth,
    (SELECT count(*) FROM jobs WHERE state = 'running' AND queue = queues.name) AS running,
    (SELECT min(oldest) FROM (SELECT (SELECT queued_at FROM jobs WHERE state = 'queued' AND queue = queues.name
        AND lane = lanes.value ORDER BY queued_at LIMIT 1) AS oldest FROM json_each('[0,1,2]') AS lanes)) AS oldest
FROM queues ORDER BY name"""


class WorkersPart:
    """The part of the store that workers sign on to."""

    _db: Database

    async def register(self, worker: WorkerInfo, *, now: datetime | None = None) -> list[Ticket]:
        """Add a worker; rows that waited for its tasks are queued again."""

        def work(connection: sqlite3.Connection) -> list[Ticket]:
            moment = self._db.now(now)
            connection.execute(
                REGISTER,
                (
                    worker.id,
                    worker.host,
                    worker.pid,
                    array(worker.queues),
                    array(worker.tasks),
                    orjson.dumps(dict(worker.slots)).decode(),
                    worker.lease,
                    moment,
                ),
            )
            return unpark(connection, moment)

        return await self._db.write(work)

    async def beat(self, worker: str, *, now: datetime | None = None) -> Beat:
        """Prove life, hear what is held."""

        def work(connection: sqlite3.Connection) -> Beat:
            moment = self._db.now(now)
            if connection.execute(BEAT, (moment, worker)).rowcount == 0:
                return Beat(alive=False)
            return Beat(
                True,
                [
                    Held(row["id"], row["epoch"], bool(row["cancel"]), row["age"])
                    for row in connection.execute(HELD, (moment, worker)).fetchall()
                ],
            )

        return await self._db.write(work)

    async def release(
        self, worker: str, runs: Sequence[tuple[str, int]], *, now: datetime | None = None
    ) -> list[Ticket]:
        """Give rows back uncharged."""

        def work(connection: sqlite3.Connection) -> list[Ticket]:
            wanted = set(runs)
            rows = connection.execute(f"{RUNNING} AND worker_id = ?", (worker,)).fetchall()
            mine = [row for row in rows if (row["id"], row["epoch"]) in wanted]
            return rescue(connection, mine, Outcome.INTERRUPTED, self._db.now(now)).tickets

        return await self._db.write(work)

    async def stop(self, worker: str, *, now: datetime | None = None) -> list[Ticket]:
        """Mark a clean end."""

        def work(connection: sqlite3.Connection) -> list[Ticket]:
            moment = self._db.now(now)
            connection.execute(STOP, (moment, worker))
            rows = connection.execute(f"{RUNNING} AND worker_id = ?", (worker,)).fetchall()
            return rescue(connection, rows, Outcome.INTERRUPTED, moment).tickets

        return await self._db.write(work)

    async def workers(self) -> list[WorkerInfo]:
        """Who is or was there."""

        def work(connection: sqlite3.Connection) -> list[WorkerInfo]:
            found = connection.execute(WORKERS, (self._db.now(None) - ENDED_SHOWN,)).fetchall()
            return [
                WorkerInfo(
                    id=row["id"],
                    host=row["host"],
                    pid=row["pid"],
                    state=row["state"],
                    queues=orjson.loads(row["queues"]),
                    tasks=orjson.loads(row["tasks"]),
                    slots=orjson.loads(row["slots"]),
                    lease=row["seconds"],
                    started_at=instant(row["started_at"]),
                    heartbeat_at=instant(row["heartbeat_at"]),
                )
                for row in found
            ]

        return await self._db.read(work)

    @asynccontextmanager
    async def heart(self) -> AsyncIterator[Self]:
        """One writer serves every thread: beats go the same way."""
        yield self


class CataloguePart:
    """The part of the store that knows tasks and queues."""

    _db: Database

    async def publish_tasks(self, tasks: Sequence[TaskInfo], *, now: datetime | None = None) -> None:
        """Insert or update tasks and their queues."""

        def work(connection: sqlite3.Connection) -> None:
            moment = self._db.now(now)
            connection.executemany(
                PUBLISH,
                [
                    (
                        DEFAULT_TENANT,
                        t.name,
                        t.queue,
                        t.runs_in,
                        t.schema,
                        t.timeout,
                        t.max_attempts,
                        t.description,
                        moment,
                    )
                    for t in tasks
                ],
            )
            connection.executemany(QUEUE, sorted({(DEFAULT_TENANT, task.queue) for task in tasks}))

        await self._db.write(work)

    async def tasks(self) -> list[TaskInfo]:
        """All known tasks."""

        def work(connection: sqlite3.Connection) -> list[TaskInfo]:
            return [
                TaskInfo(
                    name=row["name"],
                    queue=row["queue"],
                    runs_in=RunsIn(row["runs_in"]),
                    schema=row["schema"],
                    timeout=row["timeout"],
                    max_attempts=row["max_attempts"],
                    description=row["description"],
                    live_workers=row["live_workers"],
                    updated_at=instant(row["updated_at"]),
                )
                for row in connection.execute(TASKS).fetchall()
            ]

        return await self._db.read(work)

    async def ensure_queues(self, names: Sequence[str]) -> None:
        """Create queues."""
        rows = sorted((DEFAULT_TENANT, name) for name in names)
        await self._db.write(lambda connection: connection.executemany(QUEUE, rows).rowcount)

    async def queue_names(self) -> dict[str, bool]:
        """Every queue and whether it is paused."""
        return await self._db.read(
            lambda connection: {
                row["name"]: bool(row["paused"])
                for row in connection.execute("SELECT name, paused FROM queues").fetchall()
            }
        )

    async def queues(self) -> list[QueueInfo]:
        """Every queue with what stands in it."""

        def work(connection: sqlite3.Connection) -> list[QueueInfo]:
            moment = self._db.now(None)
            return [
                QueueInfo(
                    name=row["name"],
                    paused=bool(row["paused"]),
                    pause_reason=row["pause_reason"],
                    depth=min(row["depth"], DEPTH_SHOWN),
                    depth_capped=row["depth"] > DEPTH_SHOWN,
                    running=row["running"],
                    oldest=None if row["oldest"] is None else max(0.0, (moment - row["oldest"]) / 1e6),
                )
                for row in connection.execute(QUEUES).fetchall()
            ]

        return await self._db.read(work)

    async def pause(self, queue: str, reason: str | None) -> bool:
        """Stop claims from a queue."""
        return await self._set_paused(queue, True, reason)

    async def resume(self, queue: str) -> bool:
        """Allow claims again."""
        return await self._set_paused(queue, False, None)

    async def _set_paused(self, queue: str, paused: bool, reason: str | None) -> bool:  # noqa: FBT001
        update = "UPDATE queues SET paused = ?, pause_reason = ? WHERE name = ?"
        return await self._db.write(lambda connection: connection.execute(update, (paused, reason, queue)).rowcount > 0)
