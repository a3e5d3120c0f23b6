"""The reference hot path: what the fixed parts can do on a job's way, at full durability.

Submit (group-committed INSERT, synchronous_commit on), publish (aiormq, confirms pipelined, quorum queue, up to 64 tickets
a message), consume, claim (one UPDATE for a batch), ack, run, settle (one UPDATE for a batch). It validates nothing,
retries nothing, keeps no logs and no history, and has no leases: a process that dies loses what it ran. It is the
yardstick of `make bench`, not a design.

    python -m bench.reference PORT ROLES DATABASE_URL SCHEMA BROKER_URL

ROLES is api, consumer, or both. It serves `POST /jobs` and `POST /jobs/batch`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final
from uuid import UUID

import aiormq
import asyncpg
import orjson
import uvicorn
import uvloop
from aiormq import spec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SHEET: Final = 64
SLOTS: Final = 200
BATCH: Final = 500
TABLE: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    id uuid PRIMARY KEY, task text NOT NULL, queue text NOT NULL, state smallint NOT NULL, payload jsonb NOT NULL,
    result jsonb, attempt int NOT NULL DEFAULT 0, token bigint NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL DEFAULT now(), worker text, created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz, finished_at timestamptz);
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (run_at) WHERE state IN (0, 4)"""
INSERT: Final = """
INSERT INTO jobs (id, task, queue, state, payload)
SELECT i, t, 'default', 1, p::jsonb FROM unnest($1::uuid[], $2::text[], $3::text[]) AS x (i, t, p)
ON CONFLICT DO NOTHING"""
CLAIM: Final = """
UPDATE jobs SET state = 2, attempt = attempt + 1, token = token + 1, started_at = now(), worker = $2
WHERE id = any($1::uuid[]) AND state = 1 RETURNING id, payload, token"""
SETTLE: Final = """
UPDATE jobs j SET state = 3, result = x.r::jsonb, finished_at = clock_timestamp()
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS x (i, k, r)
WHERE j.id = x.i AND j.token = x.k AND j.state = 2"""


def uuid7() -> UUID:
    """A new id that sorts by time."""
    random = int.from_bytes(os.urandom(10), "big")
    number = (int(time.time() * 1_000) << 80) | (0x7000 << 64) | ((random >> 64) & 0xFFF) << 64
    return UUID(int=number | 1 << 63 | (random & (1 << 62) - 1))


def queue_of(schema: str) -> str:
    """Where tickets of a schema's jobs wait."""
    return f"{schema}.reference"


class Reference:
    """Both sides of the way, in one process or in two."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._waiting: list[tuple[UUID, str, str, asyncio.Future[str]]] = []
        self._flushing = 0
        self._buffer: list[tuple[list[UUID], int]] = []
        self._settlements: list[tuple[UUID, int, str]] = []
        self._free = SLOTS
        self._tickets, self._settled = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, database: str, schema: str, broker: str) -> None:
        """Connect; make what is missing."""
        self._pool = await asyncpg.create_pool(
            database, min_size=4, max_size=4, server_settings={"search_path": schema, "synchronous_commit": "on"}
        )
        async with self._pool.acquire() as connection:
            await connection.execute(TABLE)
        self._connection = await aiormq.connect(broker)
        self._publishing = await self._connection.channel(publisher_confirms=True)
        await self._publishing.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "quorum"})

    def submit(self, task: str, payload: str) -> asyncio.Future[str]:
        """A job; the future ends with its id when it is durable and published."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting.append((uuid7(), task, payload, future))
        if self._flushing < 2:
            self._flushing += 1
            loop.call_soon(lambda: self._keep(self._flush()))
        return future

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self) -> None:
        while self._waiting:
            rows, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            ids, tasks, payloads, futures = zip(*rows, strict=True)
            await self._pool.execute(INSERT, ids, tasks, payloads)
            await asyncio.gather(*(self._publish(ids[at : at + SHEET]) for at in range(0, len(ids), SHEET)))
            for job_id, future in zip(ids, futures, strict=True):
                future.set_result(str(job_id))
        self._flushing -= 1

    async def _publish(self, ids: Sequence[UUID]) -> None:
        properties = spec.Basic.Properties(delivery_mode=2, message_id=uuid7().hex)
        body = b"".join(job_id.bytes for job_id in ids)
        await self._publishing.basic_publish(
            body, routing_key=self._queue, mandatory=True, wait=False, properties=properties
        )

    async def consume(self) -> None:
        """Run what comes."""
        self._channel = await self._connection.channel(publisher_confirms=False)
        await self._channel.basic_qos(prefetch_count=8)
        self._keep(self._claim())
        self._keep(self._settle())
        await self._channel.basic_consume(self._queue, self._deliver)

    async def _deliver(self, message: Any) -> None:
        body = message.body
        ids = [UUID(bytes=body[at : at + 16]) for at in range(0, len(body), 16)]
        self._buffer.append((ids, message.delivery.delivery_tag))
        self._tickets.set()

    async def _claim(self) -> None:
        while True:
            if not self._buffer or self._free <= 0:
                self._tickets.clear()
                await self._tickets.wait()
                continue
            ids: list[UUID] = []
            tags = []
            while self._buffer and len(ids) < self._free:
                some, tag = self._buffer.pop(0)
                ids += some
                tags.append(tag)
            rows = await self._pool.fetch(CLAIM, ids, "w")
            for tag in tags:
                await self._channel.basic_ack(tag, wait=False)
            self._free -= len(rows)
            for row in rows:
                self._keep(self._run(row))

    async def _run(self, row: Any) -> None:
        orjson.loads(row["payload"])
        self._settlements.append((row["id"], row["token"], '{"ok":true}'))
        self._settled.set()

    async def _settle(self) -> None:
        while True:
            if not self._settlements:
                self._settled.clear()
                await self._settled.wait()
                continue
            batch, self._settlements = self._settlements[:BATCH], self._settlements[BATCH:]
            await self._pool.execute(SETTLE, *map(list, zip(*batch, strict=True)))
            self._free += len(batch)
            self._tickets.set()


def app_of(reference: Reference) -> Starlette:
    """Its API."""

    async def one(request: Request) -> Response:
        job = orjson.loads(await request.body())
        job_id = await reference.submit(job["task"], orjson.dumps(job["payload"]).decode())
        return Response(b'{"id":"%s"}' % job_id.encode(), 202, {"location": f"/jobs/{job_id}"}, "application/json")

    async def many(request: Request) -> Response:
        jobs = orjson.loads(await request.body())["jobs"]
        ids = await asyncio.gather(
            *(reference.submit(job["task"], orjson.dumps(job["payload"]).decode()) for job in jobs)
        )
        return Response(orjson.dumps([{"id": job_id} for job_id in ids]), 207, media_type="application/json")

    return Starlette(routes=[Route("/jobs", one, methods=["POST"]), Route("/jobs/batch", many, methods=["POST"])])


async def main(port: str, roles: str, database: str, schema: str, broker: str) -> None:
    """Serve."""
    reference = Reference(queue_of(schema))
    await reference.open(database, schema, broker)
    if "consumer" in roles:
        await reference.consume()
    config = uvicorn.Config(app_of(reference), port=int(port), access_log=False, log_level="warning", lifespan="off")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
