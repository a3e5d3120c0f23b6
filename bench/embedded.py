"""Embedded mode beside a raw SQLite group-commit loop: `python -m bench.embedded [jobs]`.

Both write the same durable rows (WAL, synchronous=FULL): the raw loop inserts, claims and deletes rows in batches, which
is the least that any design on this file must do; TaskFlow validates nothing here (no HTTP) but runs each job with its
whole machinery: context, timeout, captured lines, retry policy, attempt history.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from taskflow import task
from taskflow.adapters.memory import MemoryBroker, MemoryEvents
from taskflow.adapters.obstore import LocalArtifacts
from taskflow.adapters.sql import SqliteStore
from taskflow.core.ids import new_id
from taskflow.core.job import NewJob, RunsIn
from taskflow.flow.effects import RunEffects
from taskflow.flow.logs import LogShipper
from taskflow.flow.progress import ProgressWriter
from taskflow.flow.publish import Publisher
from taskflow.flow.run import Runners
from taskflow.flow.submit import Submitter
from taskflow.roles.consumer import Consumer, ConsumerConfig
from taskflow.roles.stop import Stop
from taskflow.roles.worker import Lease
from taskflow.tasks.registry import Registry
from taskflow.wiring import database

BATCH = 100
CLIENTS = 256
ROUNDS = 3
PAYLOAD = '{"text":"' + "x" * 280 + '"}'
SLOTS = {RunsIn.ASYNC: 200, RunsIn.THREAD: 4, RunsIn.PROCESS: 1}


@task("bench.noop")
async def noop(text: str) -> None:
    """Do nothing."""


def raw(directory: Path, jobs: int) -> tuple[float, float]:
    """Rows a second of the raw loop: inserted; inserted, claimed and finished."""
    connection = sqlite3.connect(directory / "raw.db", isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, state TEXT, payload TEXT, epoch INT)")
    connection.execute("CREATE TABLE finished (id TEXT PRIMARY KEY, payload TEXT, result TEXT)")
    ids = [new_id() for _ in range(jobs)]

    def batches(work: Callable[[list[tuple[str]]], object]) -> float:
        start = time.perf_counter()
        for first in range(0, jobs, BATCH):
            connection.execute("BEGIN IMMEDIATE")
            work([(job_id,) for job_id in ids[first : first + BATCH]])
            connection.execute("COMMIT")
        return time.perf_counter() - start

    def finish(keys: list[tuple[str]]) -> None:
        connection.executemany("INSERT INTO finished SELECT id, payload, 'null' FROM jobs WHERE id = ?", keys)
        connection.executemany("DELETE FROM jobs WHERE id = ?", keys)

    insert = f"INSERT INTO jobs VALUES (?, 'queued', '{PAYLOAD}', 0)"
    claim = "UPDATE jobs SET state = 'running', epoch = epoch + 1 WHERE id = ?"
    inserted = batches(lambda keys: connection.executemany(insert, keys))
    claimed = batches(lambda keys: connection.executemany(claim, keys))
    finished = batches(finish)
    connection.close()
    return jobs / inserted, jobs / (inserted + claimed + finished)


async def embedded(directory: Path, jobs: int) -> tuple[float, float]:
    """Jobs a second of TaskFlow: submitted; submitted, run and settled."""
    url = f"sqlite:///{directory}/taskflow.db"
    database.prepare(url, migrate=True)
    events = MemoryEvents()
    async with (
        SqliteStore.from_url(url) as store,
        MemoryBroker() as broker,
        LocalArtifacts(directory / "objects") as artifacts,
        LogShipper(store, artifacts, events, namespace="bench", spool=directory / "spool") as logs,
    ):
        registry = Registry([noop])
        publisher = Publisher(broker)
        publishing = asyncio.create_task(publisher.run())
        submitter = Submitter(store, publisher)
        progress = ProgressWriter(store)
        effects = RunEffects(logs, progress, store, artifacts, "bench")
        lease = Lease(30, 5, 25)
        consumer = Consumer(
            ConsumerConfig(lease=lease, graceful=2, slots=SLOTS),
            store=store,
            broker=broker,
            events=events,
            publisher=publisher,
            registry=registry,
            progress=progress,
            runners=lambda done: Runners(registry, SLOTS, done, effects=effects, lease=25, fatal=sys.exit),
            fatal=sys.exit,
        )
        numbers = iter(range(jobs))

        async def client() -> None:
            for _ in numbers:
                await submitter.submit(
                    NewJob(
                        id=new_id(),
                        task="bench.noop",
                        queue="default",
                        priority=5,
                        runs_in=RunsIn.ASYNC,
                        payload=PAYLOAD,
                        max_attempts=5,
                        timeout=60,
                    )
                )

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        submitted = time.perf_counter() - start
        stop, started = Stop(), asyncio.Event()
        start = time.perf_counter()
        working = asyncio.create_task(consumer.run(stop, started.set))
        await started.wait()
        while await store._db.read(lambda connection: connection.execute("SELECT 1 FROM jobs LIMIT 1").fetchone()):  # noqa: ASYNC110, SLF001 - a benchmark polls from outside
            await asyncio.sleep(0.01)
        drained = time.perf_counter() - start
        stop.ask()
        await working
        publishing.cancel()
    return jobs / submitted, jobs / (submitted + drained)


def main() -> None:
    """Measure both, interleaved, and print medians."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rows = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as raw_dir, tempfile.TemporaryDirectory() as own_dir:
            rows.append((*raw(Path(raw_dir), jobs), *uvloop.run(embedded(Path(own_dir), jobs))))
    raw_submit, raw_all, submit, end_to_end = (sorted(column)[ROUNDS // 2] for column in zip(*rows, strict=True))
    print(f"{jobs:,} jobs of {len(PAYLOAD)} bytes, no-op, synchronous=FULL, medians of {ROUNDS} interleaved rounds")
    print(f"{'':24}{'submit/s':>12}{'end to end/s':>14}")
    print(f"{'raw SQLite, batches':24}{raw_submit:12,.0f}{raw_all:14,.0f}")
    print(f"{'TaskFlow, embedded':24}{submit:12,.0f}{end_to_end:14,.0f}")
    print(f"{'ratio':24}{submit / raw_submit:12.2f}{end_to_end / raw_all:14.2f}")


if __name__ == "__main__":
    main()
