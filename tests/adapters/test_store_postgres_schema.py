"""The schema on PostgreSQL: migrations by many at once, no drift, days that are made ahead and dropped."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from taskflow.adapters.sql import PostgresStore, revision, schema
from taskflow.adapters.sql.drift import drift
from taskflow.adapters.sql.postgres.schema import TRY_LOCK
from taskflow.core.errors import StoreUnavailable
from taskflow.core.ids import new_id
from taskflow.core.job import Idempotency, Outcome
from taskflow.ports.store import Retained, Segment
from taskflow.testing.store import T0, at, claimed, end, job, worker
from taskflow.wiring import database
from tests.adapters.postgres_house import emptied, outside, own_schema, url_of
from tests.support import until_sync

ROOT = Path(__file__).parents[2]
DAY = 86_400
MONTH = 30 * DAY

pytestmark = pytest.mark.adapter("postgresql")


@pytest.fixture
def empty() -> Iterator[str]:
    """A schema that is not there yet."""
    with own_schema(installed=False) as made:
        yield made


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A schema for all tests of days."""
    with own_schema() as made:
        yield made


@pytest.fixture
async def store(name: str) -> AsyncIterator[PostgresStore]:
    """A store without days."""
    async with outside(name) as connection:
        for day in await days(name):
            await connection.execute(f"DROP TABLE {day}")
    await emptied(name)
    async with PostgresStore.from_url(url_of(name)) as store:
        yield store


async def days(name: str) -> list[str]:
    """Partitions that are a day's."""
    asked = """SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'finished'::regclass AND relname <> 'finished_default' ORDER BY relname"""
    async with outside(name) as connection:
        return [row[0] for row in await connection.fetch(asked)]


def test_many_upgrades_at_once_are_one(empty: str) -> None:
    """Also where the schema has to be made; then down to nothing and up again, with others' tables left alone."""
    url = url_of(empty)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(schema.upgrade, [url] * 4))
    assert schema.current(url) == schema.head() == revision.HEAD
    assert revision.up_to_date(url)
    assert drift(url) == []

    def foreign(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE celery_taskmeta (id integer PRIMARY KEY)")
        connection.commit()

    schema.connected(url, foreign)
    schema.downgrade(url, "base")
    assert schema.current(url) is None
    assert not revision.up_to_date(url)
    schema.upgrade(url)
    assert drift(url) == []
    assert schema.connected(url, lambda it: it.exec_driver_sql("SELECT count(*) FROM celery_taskmeta").scalar()) == 0


async def test_workers_from_before_leases_have_the_default_one(empty: str) -> None:
    """Up, down and up again, with rows."""
    url = url_of(empty)
    for _ in range(2):
        await asyncio.to_thread(schema.upgrade, url, "0001")
        async with outside(empty) as connection:
            await connection.execute(
                """INSERT INTO workers VALUES ('w', 'h', 1, 'alive', '[]', '[]', '{}', now(), '2026-01-01')
                ON CONFLICT DO NOTHING"""
            )
            await connection.execute("INSERT INTO upkeep (id, last_sweep_at, grace_until) VALUES (1, now(), now())")
        await asyncio.to_thread(schema.upgrade, url)
        assert await asyncio.to_thread(drift, url) == []
        async with PostgresStore.from_url(url) as store:
            assert [(info.id, info.lease) for info in await store.workers()] == [("w", 30.0)]
            assert (await store.sweep(15.0)).in_grace
        await asyncio.to_thread(schema.downgrade, url, "0001")


def test_who_waits_to_migrate_holds_up_no_index_that_is_built(empty: str) -> None:
    """An index that is built concurrently waits for every snapshot, and who waits inside a statement has one."""
    url = url_of(empty)
    schema.upgrade(url)
    waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE query = :asked").bindparams(asked=TRY_LOCK)

    def build(connection: sa.Connection) -> None:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        others = [threads.submit(schema.upgrade, url) for _ in range(3)]
        until_sync(lambda: alone.execute(waiting).scalar_one() >= 3, 20)
        alone.exec_driver_sql("CREATE INDEX CONCURRENTLY trap ON jobs (payload)")
        assert not any(other.done() for other in others)
        pending.extend(others)

    pending: list[Future[None]] = []
    with ThreadPoolExecutor(3) as threads:
        schema.connected(url, build)
        for other in pending:
            other.result(20)


def test_a_start_without_the_schema_says_what_to_do(empty: str) -> None:
    """Or installs it, where that is wished; the next start only looks."""
    url = url_of(empty)
    with pytest.raises(database.SchemaBehind, match="taskflow db upgrade"):
        database.prepare(url, migrate=False)
    assert database.prepare(url, migrate=True) == revision.HEAD
    assert database.prepare(url, migrate=False) == revision.HEAD


def test_plain_alembic_takes_the_same_url(empty: str) -> None:
    """And finds nothing to generate, beside a day's partition and a stranger's table."""
    url = url_of(empty)

    def alembic(*words: str) -> None:
        command = [sys.executable, "-m", "alembic", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"TASKFLOW_STORE_URL": url}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr

    alembic("upgrade", "head")

    async def grow() -> None:
        async with PostgresStore.from_url(url) as store:
            await store.retain(MONTH)
        async with outside(empty) as connection:
            await connection.execute("CREATE TABLE others (id integer)")

    asyncio.run(grow())
    alembic("check")
    alembic("downgrade", "base")


def test_nobody_migrates_through_a_pooler(empty: str) -> None:
    """It would not keep the lock; a start that has nothing to migrate may go through one."""
    url = url_of(empty, pgbouncer="true")
    with pytest.raises(database.SchemaBehind):
        database.prepare(url, migrate=False)
    with pytest.raises(StoreUnavailable, match="URL of the database itself"):
        database.prepare(url, migrate=True)
    schema.upgrade(url_of(empty))
    assert database.prepare(url, migrate=True) == revision.HEAD


def test_one_database_is_chosen_without_the_others_driver() -> None:
    """Neither store costs the start of the other, and a start that has nothing to migrate needs no Alembic."""
    for chosen, spared in (("SqliteStore", "asyncpg"), ("PostgresStore", "taskflow.adapters.sql.sqlite")):
        code = f"""
import sys
from taskflow.adapters.sql import {chosen}
from taskflow.wiring import database
assert not {{"{spared}", "alembic", "sqlalchemy.ext.asyncio"}} & set(sys.modules), sorted(sys.modules)"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_days_are_made_ahead_and_rows_find_theirs(store: PostgresStore, name: str) -> None:
    """Today and the next three; many at once make each once; what began without one stays in the default."""
    await asyncio.gather(*(store.retain(MONTH, now=T0) for _ in range(4)))
    await store.retain(MONTH, now=T0)
    assert await days(name) == [f"finished_2026010{day}" for day in (1, 2, 3, 4)]
    me = await worker(store)
    for second in (1, DAY, 4 * DAY):
        claim = await claimed(store, me)
        await store.settle([end(claim, Outcome.SUCCEEDED, result="1")], now=at(second))
    async with outside(name) as connection:
        counts = await connection.fetch("SELECT tableoid::regclass::text AS name, count(*) FROM finished GROUP BY 1")
    assert dict(map(tuple, counts)) == {"finished_20260101": 1, "finished_20260102": 1, "finished_default": 1}
    await store.retain(MONTH, now=at(4 * DAY))
    assert "finished_20260105" not in await days(name)
    assert "finished_20260106" in await days(name)


async def settled(store: PostgresStore, moment: datetime, count: int) -> list[str]:
    """Jobs that ended at an instant, each with a key and an object."""
    me = await worker(store)
    claims = [await claimed(store, me, idempotency=Idempotency("jobs", new_id(), "f")) for _ in range(count)]
    await store.add_segments(
        [Segment(job_id=c.id, epoch=1, seq=1, object=f"o-{c.id}", offset=0, length=1) for c in claims]
    )
    await store.settle([end(claim, Outcome.SUCCEEDED, result="1") for claim in claims], now=moment)
    return [claim.id for claim in claims]


async def passes(store: PostgresStore, moment: datetime, limit: int = 2) -> list[Retained]:
    """Retention until it says that there is no more."""
    made = [await store.retain(MONTH, limit=limit, now=moment)]
    while made[-1].more:
        made.append(await store.retain(MONTH, limit=limit, now=moment))
    return made


async def test_an_old_day_is_dropped_after_all_that_hangs_on_it(store: PostgresStore, name: str) -> None:
    """In batches, and its objects are told; a day that is partly old stays whole."""
    await store.retain(MONTH, now=T0)
    old, young = await settled(store, at(1), 5), await settled(store, at(DAY + 1), 1)
    assert not any(one.objects for one in await passes(store, at(MONTH + DAY - 1)))
    assert await store.get("default", old[0]) is not None
    told = [name for one in await passes(store, at(MONTH + DAY + 2)) for name in one.objects]
    assert sorted(told) == sorted(f"o-{job_id}" for job_id in old)
    assert "finished_20260101" not in await days(name)
    assert await store.get("default", old[0]) is None
    assert await store.get("default", young[0]) is not None
    async with outside(name) as connection:
        for table in ("attempts", "idempotency", "log_segments"):
            left = await connection.fetch(f"SELECT job_id FROM {table}")
            assert {row[0] for row in left} <= set(young)


async def test_what_is_in_no_day_is_deleted_in_batches(store: PostgresStore) -> None:
    """The default partition is a net, and does not fill up."""
    old = await settled(store, at(1), 5)
    told = await passes(store, at(MONTH + 2))
    assert sorted(len(one.objects) for one in told) == [1, 2, 2]
    assert [await store.get("default", job_id) for job_id in old] == [None] * 5


async def test_a_day_that_is_in_use_is_dropped_later_and_keeps_nobody_waiting(store: PostgresStore, name: str) -> None:
    """Whoever reads for long delays the drop; the drop delays nobody for long."""
    await store.retain(MONTH, now=T0)
    await settled(store, at(1), 1)
    async with outside(name) as connection:
        reading = connection.transaction()
        await reading.start()
        await connection.fetch("SELECT count(*) FROM finished")
        dropping = asyncio.create_task(passes(store, at(MONTH + DAY + 2)))
        me = await worker(store)
        async with asyncio.timeout(3):
            while not dropping.done():
                claim = await claimed(store, me)
                [done] = await store.settle([end(claim, Outcome.SUCCEEDED, result="1")])
                assert done.state
        assert "finished_20260101" in await days(name)
        await reading.rollback()
    await dropping
    await passes(store, at(MONTH + DAY + 2))
    assert "finished_20260101" not in await days(name)


async def test_a_short_retention_is_not_left_to_whole_days(store: PostgresStore) -> None:
    """Rows of a day's partition are deleted where a day would be too long."""
    await store.retain(3_600, now=T0)
    [old] = await settled(store, at(1), 1)
    retained = await store.retain(3_600, now=T0 + timedelta(hours=2))
    assert (list(retained.objects), retained.more) == ([f"o-{old}"], False)


async def test_expired_keys_go_in_batches(store: PostgresStore) -> None:
    """And it is told that there are more."""
    await store.insert([job(idempotency=Idempotency("jobs", f"k{n}", "f")) for n in range(3)], now=T0)
    told = [(await store.retain(MONTH, limit=2, now=at(2 * DAY))).more for _ in range(2)]
    assert told == [True, False]
