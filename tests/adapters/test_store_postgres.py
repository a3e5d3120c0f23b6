"""The store on PostgreSQL keeps the store's contract; what only an embedded store can do is done by sweeps here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.adapters.sql.postgres import upkeep
from taskflow.adapters.sql.postgres.database import Database
from taskflow.core.errors import TaskFlowError
from taskflow.core.job import Outcome, State
from taskflow.core.limits import CRASHES_MAX
from taskflow.ports.store import StateStore
from taskflow.testing.store import StoreConformance
from taskflow.testing.store_facts import GAP, LANE, T0, at, claimed, job, shown, worker
from tests.adapters.postgres_house import emptied, outside, own_schema, url_of

pytestmark = pytest.mark.adapter("postgresql")


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A schema for all tests of this file."""
    with own_schema() as made:
        yield made


async def bury(store: StateStore, second: float = 0) -> None:
    """Let everybody who is alive be silent for a lease, under sweeps without a gap."""
    for moment in range(0, 40, 5):
        await store.sweep(GAP, now=at(second + moment))


class TestPostgres(StoreConformance):
    """The suite, on PostgreSQL."""

    @pytest.fixture
    async def store(self, name: str) -> AsyncIterator[StateStore]:
        """The store under test."""
        await emptied(name)
        async with PostgresStore.from_url(url_of(name)) as store:
            yield store

    async def test_adopting_needs_no_grace_and_leaves_none(self, store: StateStore) -> None:
        """Nobody holds a database of a server alone."""
        with pytest.raises(TaskFlowError, match="nobody holds"):
            await store.adopt()

    async def test_deaths_of_workers_isolate_a_job_but_never_poison_it(self, store: StateStore, name: str) -> None:  # type: ignore[override]
        """A worker's death alone proves nothing about a job: not the third either, only deaths without end."""
        new = job()
        await store.insert([new], now=T0)
        for death, crashes in enumerate((0, 1, 2, 3, CRASHES_MAX)):
            me, second, isolated = await worker(store, now=at(death * 100)), death * 100, crashes >= 2
            if crashes == CRASHES_MAX:
                async with outside(name) as connection:
                    await connection.execute("UPDATE jobs SET crashes = $1", crashes)
            [claim] = await store.draw(me, [LANE], ["t"], 1, isolated=isolated, now=at(second))
            assert (claim.isolated, claim.crashes) == (isolated, crashes)
            await bury(store, second)
        after = await shown(store, new.id)
        assert (after.state, after.reason, after.attempt) == (State.FAILED, "crashed_too_often", 0)

    async def test_a_wished_cancel_wins_over_the_last_crash_and_over_the_last_interruption(
        self, store: StateStore
    ) -> None:
        """Nobody wants the job any more: it is no dead letter."""
        claim = await claimed(store, await worker(store))
        await store.cancel("default", claim.id, now=at(1))
        await bury(store)
        after = await shown(store, claim.id)
        assert (after.state, [attempt.outcome for attempt in after.attempts]) == (State.CANCELLED, [Outcome.CRASHED])

    async def test_a_look_that_fails_keeps_nothing_from_being_mended(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever it cannot look at: what else stands wrong is found by the statements that mend it."""
        broken = "SELECT 1 / 0 AS wrong WHERE $1::timestamptz IS NULL OR $2::interval IS NOT NULL"
        monkeypatch.setattr(upkeep, "WATCH_AND_LOOK", broken)
        claim = await claimed(store, await worker(store))
        await bury(store)
        assert [attempt.outcome for attempt in (await shown(store, claim.id)).attempts] == [Outcome.CRASHED]


class TestBehindAPooler(TestPostgres):
    """The same without any session: as behind a transaction pooler."""

    @pytest.fixture
    async def store(self, name: str) -> AsyncIterator[StateStore]:
        """The store under test."""
        await emptied(name)
        async with PostgresStore.from_url(url_of(name, pgbouncer="true")) as store:
            yield store

    async def test_upkeep_with_nothing_to_do_asks_once(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An idle deployment leaves its database alone."""
        me = await worker(store, now=T0)
        await store.sweep(GAP, now=T0)
        await store.insert([job(), job(delay=600.0)], now=T0)
        await claimed(store, me, now=T0)
        asked: list[str] = []
        fetch = Database.fetch

        async def counted(database: Database, statement: str, *values: Any, **options: Any) -> Any:
            asked.append(statement)
            return await fetch(database, statement, *values, **options)

        monkeypatch.setattr(Database, "fetch", counted)
        assert (await store.sweep(GAP, now=at(1))).in_grace
        assert len(asked) == 1
        assert (await store.promote(now=at(1))).next_due == 599.0
        assert len(asked) == 2
