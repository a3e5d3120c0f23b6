"""What both stores answer to whoever checks them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskflow.adapters.sql import PostgresStore, SqliteStore, schema
from taskflow.adapters.sql.tables import to_micros
from taskflow.ports.audit import Odd
from taskflow.testing.store_facts import at, claimed, worker
from tests.adapters.audit_suite import AuditSuite, Damage
from tests.adapters.postgres_house import emptied, outside, own_schema, url_of

LATER = at(4)


@pytest.mark.adapter("sqlite")
class TestSqlite(AuditSuite):
    """On SQLite."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        """A file of its own."""
        schema.upgrade(f"sqlite:///{tmp_path}/t.db")
        async with SqliteStore(tmp_path / "t.db") as store:
            await store.ensure_queues(["default"])
            yield store

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Damage:
        """Another connection, which checks nothing."""

        async def work(statements: str) -> None:
            with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
                connection.execute("PRAGMA ignore_check_constraints=ON")
                connection.executescript(statements.format(later=to_micros(LATER), ancient="'x'", endless="9e18"))

        return work

    async def test_a_state_that_is_no_live_one(self, store: Any, damage: Damage) -> None:
        """Past the check and the guard."""
        claim = await claimed(store, await worker(store))
        await damage("DROP TRIGGER jobs_lifecycle; UPDATE jobs SET state = 'succeeded'")
        assert await self.odd(store) == {Odd.NOT_LIVE: [claim.id]}


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A schema for all tests of this file."""
    with own_schema() as made:
        yield made


@pytest.mark.adapter("postgresql")
class TestPostgres(AuditSuite):
    """On PostgreSQL."""

    @pytest.fixture
    async def store(self, name: str) -> AsyncIterator[PostgresStore]:
        """The schema, emptied."""
        await emptied(name)
        async with PostgresStore.from_url(url_of(name)) as store:
            await store.ensure_queues(["default"])
            yield store

    @pytest.fixture
    def damage(self, name: str) -> Damage:
        """Another connection."""

        async def work(statements: str) -> None:
            async with outside(name) as connection:
                later = f"'{LATER.isoformat()}'::timestamptz"
                ancient = "'0044-03-15 BC'::timestamptz"
                await connection.execute(statements.format(later=later, ancient=ancient, endless="'infinity'"))

        return work

    async def test_a_state_that_is_no_live_one(self, store: Any, damage: Damage) -> None:
        """Past the check and the guard."""
        claim = await claimed(store, await worker(store))
        await damage(
            "ALTER TABLE jobs DROP CONSTRAINT ck_jobs_state, DISABLE TRIGGER jobs_lifecycle;"
            "UPDATE jobs SET state = 'succeeded'"
        )
        try:
            assert await self.odd(store) == {Odd.NOT_LIVE: [claim.id]}
        finally:
            await damage("DELETE FROM jobs")
            await damage(
                "ALTER TABLE jobs ENABLE TRIGGER jobs_lifecycle, ADD CONSTRAINT ck_jobs_state CHECK "
                "(state IN ('scheduled','waiting','queued','running','retrying','failed'))"
            )
