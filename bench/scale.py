"""Whether PostgreSQL's part of a job's way stays as cheap as it is when much lies about: `python -m bench.scale`.

Two schemas on one server, one empty and one with a million waiting and ten million finished rows; the same calls on both in
turn, so that what the machine does meanwhile meets both alike. After ANALYZE, as autovacuum would leave it. A figure is the
median of a call; one that is more than 1.3 times that of the empty schema fails.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import asyncpg

from bench.systems import PAYLOAD
from taskflow.adapters.sql import PostgresStore, schema
from taskflow.core.ids import new_id
from taskflow.core.job import Lane, LaneKey, NewJob, Outcome, RunsIn, State
from taskflow.core.lifecycle import Settlement
from taskflow.ports.store import JobQuery, WorkerInfo
from taskflow.tasks.jsontext import dumps
from tests.throwaway import ThrowawayPostgres

ROWS: Final = 100
MOST: Final = 1.3
BYTES: Final = 1_000
"""Of disk that a row may take, its index entries and its share of the log included."""
TEXT: Final = dumps(PAYLOAD)
LANE: Final = LaneKey("busy", Lane.NORMAL)
WORKER: Final = WorkerInfo(
    id="w", host="h", pid=1, queues=["default", "busy"], tasks=["t"], slots={"async": 200}, lease=600
)
DOCUMENT: Final = (
    "tenant, task, queue, lane, priority, runs_in, state, payload, attempt, max_attempts, run, epoch, crashes, "
    "interruptions, timeout, tags, metadata, created_at"
)
# Ids as old as their rows: they begin with the time.
ID: Final = """
lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS hex, at, n
    FROM (SELECT n, now() - interval '1 hour' - n * interval '0.1 s' AS at FROM generate_series(1, $1) AS n) AS times"""
TEXT_ID: Final = "substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-7000-8000-' || lpad(to_hex(n), 12, '0')"
WAITING: Final = f"""
INSERT INTO jobs (id, {DOCUMENT}, attempt_base, snoozes, queued_at)
SELECT {TEXT_ID}, 'default', 't', 'busy', 1, 5, 'async', 'queued', $2, 0, 3, 1, 0, 0, 0, 60, '[]', '{{}}', at, 0, 0, at
FROM (SELECT {ID}) AS rows ORDER BY at"""
FINISHED: Final = f"""
INSERT INTO finished (id, {DOCUMENT}, started_at, finished_at, result, worker_id)
SELECT {TEXT_ID}, 'default', 't', 'default', 1, 5, 'async', 'succeeded', $2, 1, 3, 1, 1, 0, 0, 60, '[]', '{{}}', at, at, at,
    '{{"ok":true}}', 'gone' FROM (SELECT {ID}) AS rows ORDER BY at"""
SLICE: Final = 1_000_000


class Side:
    """One schema."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.took: dict[str, list[float]] = {}

    async def ready(self) -> None:
        """A worker, and its queues."""
        await self.store.ensure_queues(["default", "busy"])
        await self.store.register(WORKER)

    async def timed(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Its answer; notes how long it took."""
        begun = time.perf_counter()
        answer = await call()
        self.took.setdefault(name, []).append(time.perf_counter() - begun)
        return answer

    async def way(self) -> None:
        """A hundred jobs go through; a hundred of those that wait are drawn and given back; somebody looks."""
        store = self.store
        jobs = [NewJob(new_id(), "t", "default", 5, RunsIn.ASYNC, TEXT, 3, 60.0) for _ in range(ROWS)]
        await self.timed("submit", lambda: store.insert(jobs))
        claims = await self.timed("claim", lambda: store.claim("w", [job.id for job in jobs], ["t"]))
        ends = [
            Settlement(one.id, one.epoch, "w", Outcome.SUCCEEDED, State.SUCCEEDED, result='{"ok":true}')
            for one in claims
        ]
        await self.timed("settle", lambda: store.settle(ends))
        waiting = [NewJob(new_id(), "t", "busy", 5, RunsIn.ASYNC, TEXT, 3, 60.0) for _ in range(ROWS)]
        await store.insert(waiting)
        drawn = await self.timed("draw", lambda: store.draw("w", [LANE], ["t"], ROWS))
        await store.release("w", [(one.id, one.epoch) for one in drawn])
        for name, query in {
            "list": JobQuery(tenant="default", limit=50),
            "list waiting": JobQuery(tenant="default", limit=50, states=frozenset({State.QUEUED})),
            "list succeeded": JobQuery(tenant="default", limit=50, states=frozenset({State.SUCCEEDED})),
        }.items():
            await self.timed(name, lambda query=query: store.find(query))  # type: ignore[misc]
        await self.timed("get", lambda: store.get("default", jobs[0].id))


async def fill(url: str, name: str, waiting: int, finished: int) -> None:
    """Rows as they would be after a long time."""
    connection = await asyncpg.connect(url, server_settings={"search_path": name})
    try:
        for statement, count in ((WAITING, waiting), (FINISHED, finished)):
            for start in range(0, count, SLICE):
                await connection.execute(
                    statement.replace("generate_series(1, $1)", f"generate_series({start + 1}::bigint, $1::bigint)"),
                    min(count, start + SLICE),
                    TEXT,
                )
        await connection.execute("ANALYZE")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def compare(url: str, waiting: int, finished: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds of each call: on the empty schema, on the full one."""
    urls = {name: f"{url}?schema={name}" for name in ("empty", "full")}
    for each in urls.values():
        await asyncio.to_thread(schema.upgrade, each)
    await fill(url, "full", waiting, finished)
    async with AsyncExitStack() as stack:
        sides = [Side(await stack.enter_async_context(PostgresStore.from_url(each))) for each in urls.values()]
        for side in sides:
            await side.ready()
        for _ in range(rounds):
            for side in sides:
                await side.way()
        empty, full = sides
        return {name: (statistics.median(empty.took[name]), statistics.median(full.took[name])) for name in empty.took}


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.partition(":")[0])
    parser.add_argument("--waiting", type=int, default=1_000_000, help="rows (default: %(default)s)")
    parser.add_argument("--finished", type=int, default=10_000_000, help="rows (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="calls of each kind (default: %(default)s)")
    wanted = parser.parse_args()
    with ThrowawayPostgres("max_wal_size=4GB") as server:
        need, free = (wanted.waiting + wanted.finished) * BYTES, shutil.disk_usage(server.directory).free
        if need > free:
            parser.error(f"{need >> 30} GiB are needed and {free >> 30} are free: ask for fewer rows")
        found = asyncio.run(compare(server.url, wanted.waiting, wanted.finished, wanted.rounds))
    print(f"{wanted.waiting:,} waiting and {wanted.finished:,} finished rows, medians of {wanted.rounds}")
    print(f"{'ms':16}{'empty':>10}{'full':>10}{'ratio':>8}")
    for name, (empty, full) in found.items():
        print(f"{name:16}{empty * 1e3:10.2f}{full * 1e3:10.2f}{full / empty:8.2f}")
    if slow := [name for name, (empty, full) in found.items() if full > MOST * empty]:
        sys.exit(f"more than {MOST} times what it costs on an empty table: {', '.join(slow)}")


if __name__ == "__main__":
    main()
