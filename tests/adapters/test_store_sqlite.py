"""The embedded store keeps the store's contract, and what only it promises."""

from __future__ import annotations

import asyncio
import io
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command

from taskflow.adapters.sql import SqliteStore, revision, schema
from taskflow.adapters.sql.drift import drift
from taskflow.adapters.sql.sqlite import claims, submit, upkeep
from taskflow.adapters.sql.sqlite.writer import Writer
from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.core.job import State
from taskflow.ports.store import JobQuery, StateStore
from taskflow.testing.store import StoreConformance, job

pytestmark = pytest.mark.adapter("sqlite")


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
    assert drift(url) == []


async def test_workers_from_before_leases_have_the_default_one(tmp_path: Path) -> None:
    """Up, down and up again, with rows."""
    url = f"sqlite:///{tmp_path}/t.db"
    for _ in range(2):
        schema.upgrade(url, "0001")
        with schema.engine(url).begin() as connection:
            connection.exec_driver_sql(
                "INSERT OR IGNORE INTO workers VALUES ('w', 'h', 1, 'alive', '[]', '[]', '{}', 0, 0)"
            )
            connection.exec_driver_sql("INSERT INTO upkeep (id, last_sweep_at, grace_until) VALUES (1, 0, 0)")
        schema.upgrade(url)
        assert drift(url) == []
        async with SqliteStore(tmp_path / "t.db") as store:
            assert [(info.id, info.lease) for info in await store.workers()] == [("w", 30.0)]
            assert (await store.sweep(15.0)).in_grace
        schema.downgrade(url, "0001")


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    """By its name, and not by a page of traceback."""
    (tmp_path / "t.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnavailable, match=r"t\.db cannot be read: file is not a database"):
        schema.current(f"sqlite:///{tmp_path}/t.db")


def test_drift_is_told_by_name(tmp_path: Path) -> None:
    """What is missing, and what is another."""
    url = f"sqlite:///{tmp_path}/t.db"
    schema.upgrade(url)
    with schema.engine(url).begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_jobs_due")
        connection.exec_driver_sql("DROP TABLE artifacts")
        connection.exec_driver_sql("ALTER TABLE queues DROP COLUMN pause_reason")
        connection.exec_driver_sql("ALTER TABLE tasks ADD COLUMN note TEXT")
    assert sorted(drift(url)) == [
        "column queues.pause_reason is missing",
        "column tasks.note is there, and TaskFlow knows of none",
        "index ix_jobs_due is missing",
        "table artifacts is missing",
    ]


@pytest.mark.parametrize("text", [None, b"no database" * 100])
def test_drift_of_what_cannot_be_read_is_an_outage(tmp_path: Path, text: bytes | None) -> None:
    """Whatever the driver and what lies over it say of it."""
    if text is not None:
        (tmp_path / "t.db").write_bytes(text)
    with pytest.raises(StoreUnavailable, match="the schema cannot be read"):
        drift(f"sqlite:///{tmp_path}/t.db")


async def test_what_was_written_is_there_after_a_crash(tmp_path: Path) -> None:
    """An acknowledged write is on disk, whatever becomes of the process."""
    schema.upgrade(f"sqlite:///{tmp_path}/t.db")
    async with SqliteStore(tmp_path / "t.db") as store:
        await store.insert([job()])
        with sqlite3.connect(f"file:{tmp_path}/t.db?mode=ro", uri=True) as other:
            assert other.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        other.close()
        assert other is not None


async def test_nobody_waits_for_a_writer_that_ends(tmp_path: Path) -> None:
    """What came before the end is written, what comes after is refused; nothing hangs between."""
    schema.upgrade(f"sqlite:///{tmp_path}/t.db")
    async with SqliteStore(tmp_path / "t.db") as store:
        early = [asyncio.create_task(store.insert([job()])) for _ in range(50)]
        await asyncio.gather(*early[:1])
        closing = asyncio.create_task(store._db.close())
        late = [asyncio.create_task(store.insert([job()])) for _ in range(50)]
        async with asyncio.timeout(10):
            await closing
            answers = await asyncio.gather(*early, *late, return_exceptions=True)
    assert {type(answer) for answer in answers[:50]} == {list}
    assert {type(answer) for answer in answers[50:]} == {StoreUnavailable}


class _Unlucky(sqlite3.Connection):
    """A connection that fails at its next COMMIT, and cannot even roll back then."""

    def execute(self, sql: str, *rest: object) -> sqlite3.Cursor:
        if sql == "COMMIT":
            super().close()
        return super().execute(sql, *rest)  # type: ignore[arg-type]


async def test_a_commit_that_fails_fails_its_group_and_no_other(tmp_path: Path) -> None:
    """The writer lives on, with a new connection."""
    kinds = [_Unlucky, sqlite3.Connection]

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "t.db", isolation_level=None, factory=kinds.pop(0), check_same_thread=False)

    writer = Writer(connect)
    await writer.open()
    create = "CREATE TABLE t (x)"
    with pytest.raises(StoreUnavailable):
        await writer.write(lambda connection: connection.execute(create).rowcount)
    await writer.write(lambda connection: connection.execute(create).rowcount)
    await writer.close()
    assert not kinds


async def test_a_file_that_is_no_database_is_an_outage_and_not_an_old_schema(tmp_path: Path) -> None:
    """`None` is for an empty database only."""
    async with SqliteStore(tmp_path / "new.db") as store:
        assert await store.revision() is None
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable, match="no such table"):
                await store.queue_names()
    (tmp_path / "bad.db").write_bytes(b"x" * 8192)
    with pytest.raises(StoreUnavailable, match="not a database"):
        async with SqliteStore(tmp_path / "bad.db"):
            pass


def test_a_url_names_a_file() -> None:
    """Relative with three slashes, absolute with four; anything else is told what would be right."""
    assert SqliteStore.from_url("sqlite:///a/b.db")._db.path == Path("a/b.db")
    assert SqliteStore.from_url("sqlite:////a/b.db")._db.path == Path("/a/b.db")
    for url in ("sqlite:///", "sqlite://a.db", "postgresql://h/d"):
        with pytest.raises(ValueError, match="use sqlite:///"):
            SqliteStore.from_url(url)


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        (upkeep.ORPHANS, (5,), "ix_jobs_running"),
        (upkeep.LEFT_BEHIND, (5,), "ix_jobs_running"),
        (upkeep.OVERDUE, (1, 5), "ix_jobs_running"),
        (upkeep.EXPIRED, (1, 5), "ix_jobs_expires"),
        (upkeep.PROMOTE, (1, 5), "ix_jobs_due"),
        (
            submit._find(JobQuery(tenant="t", limit=5, states=frozenset({State.FAILED})))[0],
            ("t", 5, 5),
            "ix_jobs_failed",
        ),
        (submit._find(JobQuery(tenant="t", limit=5))[0], ("t", 5, "t", 5, 5), "ix_jobs_list"),
        (
            claims.DRAW,
            {"worker": "w", "tasks": "[]", "now": 1, "queue": "q", "lane": 1, "before": 9, "isolated": 0, "limit": 1},
            "ix_jobs_queued",
        ),
    ],
)
async def test_no_backlog_makes_upkeep_slow(
    sqlite: SqliteStore, statement: str, values: tuple[object, ...], index: str
) -> None:
    """What runs every few seconds looks at the rows it is about, by a partial index, never at all of them."""
    plan = await sqlite._db.read(
        lambda connection: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()]
    )
    of_jobs = [line for line in plan if " jobs " in line]
    assert any(index in line for line in of_jobs), plan
    assert not any("SCAN jobs" in line and index not in line for line in of_jobs), plan


def test_the_script_for_postgresql_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """`finished` is partitioned with a home for every row, and nothing in it is escaped for a driver."""
    monkeypatch.setenv("TASKFLOW_STORE_URL", "postgresql://h/d")
    config = schema._config()
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    script = config.output_buffer.getvalue()
    assert "PARTITION BY RANGE (finished_at)" in script
    assert "PARTITION OF finished DEFAULT" in script
    assert "CREATE TRIGGER jobs_lifecycle" in script
    assert "%" not in script
