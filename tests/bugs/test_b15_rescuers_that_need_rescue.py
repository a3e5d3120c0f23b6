"""Recovery is itself a job that holds a lock: it gets stuck once, and nothing is recovered ever again.

Seen in procrastinate#1408. Right: a sweep is a standing question to the database. One that dies half-way leaves no lock and
no half-done work; the next one, by whoever comes, needs no worker, no slot, no queue and no Redis.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.core.errors import StoreUnavailable
from taskflow.core.job import Outcome, State
from taskflow.testing.store_facts import GAP, LEASE, T0, at, job, worker
from tests.acceptance.cluster import Cluster
from tests.adapters.postgres_house import emptied, outside, url_of
from tests.bug_report import Report
from tests.support import FULL, until, until_sync

pytestmark = pytest.mark.adapter("postgresql")
KILLS = 20 if FULL else 5
ORPHANS = 100
# With this held, a rescue has changed rows of jobs and waits to write how their runs ended.
HALF_WAY = "LOCK TABLE {}.attempts IN SHARE MODE"
WHO_WAITS = """SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_class ON relation = pg_class.oid
    JOIN pg_namespace ON relnamespace = pg_namespace.oid
    WHERE nspname = '{}' AND relname = 'attempts' AND NOT granted"""


async def killed(schema: str) -> int:
    """How many sweeps were half-way, whose connections are ended now."""
    async with outside(schema) as connection:
        return len(await connection.fetch(WHO_WAITS.format(schema)))


async def test_a_sweep_that_dies_half_way(schema: str, report: Report) -> None:
    """Its process and its connection end; nothing of it is left, and the next sweep rescues all at once."""
    await emptied(schema)
    async with PostgresStore.from_url(url_of(schema)) as mine, PostgresStore.from_url(url_of(schema)) as another:
        gone = await worker(mine)
        await mine.insert(jobs := [job(timeout=3_600) for _ in range(ORPHANS)], now=T0)
        assert len(await mine.claim(gone, [one.id for one in jobs], ["t"], now=T0)) == ORPHANS
        for moment in range(0, int(LEASE), 5):
            await mine.sweep(GAP, now=at(moment))
        async with outside(schema) as holder, holder.transaction():
            await holder.execute(HALF_WAY.format(schema))
            for turn in range(KILLS):
                sweep = asyncio.create_task(mine.sweep(GAP, now=at(LEASE + 1)))
                ended: int = await until(lambda: killed(schema))
                assert ended == 1, turn
                sweep.cancel()
                await asyncio.wait([sweep], timeout=10)
                # Nothing that happens to its connection meanwhile takes the place of the cancellation.
                assert sweep.cancelled() or isinstance(sweep.exception(), StoreUnavailable)
        async with outside(schema) as connection:
            assert await connection.fetchval("SELECT count(*) FROM jobs WHERE state = 'running'") == ORPHANS
            assert await connection.fetchval("SELECT count(*) FROM attempts") == 0
        swept = await another.sweep(GAP, now=at(LEASE + 2))
        assert (swept.rescued, len(swept.tickets)) == (ORPHANS, ORPHANS)
        async with outside(schema) as connection:
            states = await connection.fetch("SELECT state, epoch, crashes, count(*) FROM jobs GROUP BY 1, 2, 3")
            closings = await connection.fetch("SELECT outcome, count(*) FROM attempts GROUP BY 1")
    # Parked, since no worker lives: a sweep needs none.
    assert [tuple(row) for row in states] == [(State.WAITING, 1, 1, ORPHANS)]
    assert [tuple(row) for row in closings] == [(Outcome.CRASHED, ORPHANS)]
    report("B15", scale=f"{ORPHANS} orphans, {KILLS} sweeps killed half-way", faults=KILLS)


@contextmanager
def half_way(cluster: Cluster) -> Iterator[None]:
    """While every sweep of a cluster stops in the middle."""
    holds, over = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(cluster.database)
        try:
            async with connection.transaction():
                await connection.execute(HALF_WAY.format(cluster.namespace))
                holds.set()
                await asyncio.to_thread(over.wait)
        finally:
            await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert holds.wait(10)
        yield
    finally:
        over.set()
        thread.join(10)


@pytest.mark.full
@pytest.mark.adapter("rabbitmq", "redis", "s3")
def test_schedulers_that_are_killed_in_mid_sweep(cluster: Cluster, report: Report) -> None:
    """With -9, one after the other; no consumer runs meanwhile, and yet all is recovered by the last of them."""
    cluster.node("api")
    first = cluster.node("scheduler")
    consumer = cluster.node("consumer", TASKFLOW_CONSUMER_SLOTS="200")
    cluster.ready()
    cluster.submit("demo.sleep", {"seconds": 600}, count=ORPHANS)
    until_sync(lambda: cluster.count("state = 'running'", "jobs") == ORPHANS, 30)
    with half_way(cluster):
        consumer.kill()
        victims = [first]
        for turn in range(KILLS):
            until_sync(lambda: cluster.sql(WHO_WAITS.format(cluster.namespace)), 30)
            victims[-1].kill()
            if turn < KILLS - 1:
                victims.append(cluster.node("scheduler"))
        # What was half-way by then is gone as well.
        cluster.sql(WHO_WAITS.format(cluster.namespace))
        assert cluster.count("state = 'running'", "jobs") == ORPHANS
    cluster.node("scheduler")
    until_sync(lambda: cluster.count("state = 'waiting'", "jobs") == ORPHANS, 30)
    assert cluster.count("outcome = 'crashed'", "attempts") == ORPHANS
    report("B15", scale=f"{ORPHANS} orphans, {KILLS} schedulers killed in mid-sweep", faults=KILLS)
