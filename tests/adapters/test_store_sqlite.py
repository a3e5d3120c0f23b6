"""The embedded store keeps the store's contract, and what only it promises."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from taskflow.adapters.sql import SqliteStore, revision, schema
from taskflow.adapters.sql.tables import metadata
from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.ports.store import StateStore
from taskflow.testing.store import StoreConformance, job


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A fresh store in a file of its own."""
    schema.upgrade(f"sqlite:///{tmp_path}/t.db")
    async with SqliteStore(tmp_path / "t.db") as store:
        yield store


class TestSqlite(StoreConformance):
    """The suite, on SQLite."""

    @pytest.fixture
    async def store(self, sqlite: SqliteStore) -> StateStore:
        """The store under test."""
        return sqlite


async def test_concurrent_writes_share_commits_and_fail_alone(sqlite: SqliteStore) -> None:
    """200 writes, one of them bad: one fails, and there are far fewer commits than writes."""
    jobs = [job(priority=99 if n == 77 else 5) for n in range(200)]
    results = await asyncio.gather(*(sqlite.insert([one]) for one in jobs), return_exceptions=True)
    failed = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
    assert failed == [77]
    assert isinstance(results[77], DataRejected)
    assert sqlite._db._writer.commits < 50


async def test_the_database_itself_refuses_an_arrow_that_does_not_exist(sqlite: SqliteStore, tmp_path: Path) -> None:
    """The last guard of the lifecycle is not our code."""
    new = job()
    await sqlite.insert([new])
    with sqlite3.connect(tmp_path / "t.db") as other, pytest.raises(sqlite3.IntegrityError, match="no such transition"):
        other.execute("UPDATE jobs SET state = 'failed' WHERE id = ?", (new.id,))
    other.close()


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """Instead of hanging."""
    schema.upgrade(f"sqlite:///{tmp_path}/t.db")
    async with SqliteStore(tmp_path / "t.db") as store:
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.ping()


def test_the_migrations_make_what_the_tables_say(tmp_path: Path) -> None:
    """No drift; down and up again; a table that is not ours is left alone."""
    url = f"sqlite:///{tmp_path}/t.db"
    assert schema.current(url) is None
    assert not revision.up_to_date(url)
    with schema.engine(url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE celery_taskmeta (id INTEGER PRIMARY KEY)")
    schema.upgrade(url)
    schema.downgrade(url, "base")
    schema.upgrade(url)
    assert schema.current(url) == schema.head() == revision.HEAD
    assert revision.up_to_date(url)
    with schema.engine(url).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM celery_taskmeta").scalar() == 0
        context = MigrationContext.configure(
            connection, opts={"include_object": lambda _, name, kind, *rest: kind != "table" or name in metadata.tables}
        )
        assert compare_metadata(context, metadata) == []


async def test_what_was_written_is_there_after_a_crash(tmp_path: Path) -> None:
    """An acknowledged write is on disk, whatever becomes of the process."""
    schema.upgrade(f"sqlite:///{tmp_path}/t.db")
    async with SqliteStore(tmp_path / "t.db") as store:
        await store.insert([job()])
        with sqlite3.connect(f"file:{tmp_path}/t.db?mode=ro", uri=True) as other:
            assert other.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        other.close()
        assert other is not None
