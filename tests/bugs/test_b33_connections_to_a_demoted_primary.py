"""After a fail-over the pool's connections stay with the old primary, which is read-only now: reads are fine, each write
fails for days, and a check that only reads sees nothing.

Seen in gpustack#6105. Right: who submits is told to come back; the first write that is refused lets every connection go;
health says what is wrong; writes are taken again soon after there is a primary, without a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.adapters.sql.schema import upgrade
from taskflow.core.errors import StoreUnavailable
from taskflow.testing.facts import until
from taskflow.testing.store import job
from tests.api.house import House, opened
from tests.bug_report import Report
from tests.support import FULL
from tests.throwaway import ThrowawayPostgres, own

pytestmark = pytest.mark.adapter("postgresql")
LASTS = 30.0 if FULL else 0.5
BACK = 30.0


@pytest.fixture
def postgres() -> Iterator[ThrowawayPostgres]:
    """One that may be demoted."""
    with own(ThrowawayPostgres()) as server:
        upgrade(server.url)
        yield server


async def said(server: ThrowawayPostgres, *statements: str) -> None:
    """To the server, by somebody else."""
    connection = await asyncpg.connect(server.url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def submitted(house: House) -> int:
    """How a submit is answered; where it is not taken, the client is told when to come back."""
    answer = await house.http.post("/jobs", json={"task": "t.any"})
    assert answer.status_code == 202 or answer.headers["retry-after"] == "1", answer.text
    return answer.status_code


async def test_a_primary_is_demoted(postgres: ThrowawayPostgres, tmp_path: Path, report: Report) -> None:
    """And promoted again."""
    async with PostgresStore.from_url(postgres.url) as store, opened(tmp_path, store=store) as house:
        assert await submitted(house) == 202
        await said(postgres, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")

        async def demoted() -> bool:
            return await submitted(house) == 503

        await until(demoted)
        refused, end = 1, time.monotonic() + LASTS
        while time.monotonic() < end:
            assert await submitted(house) == 503
            refused += 1
            with pytest.raises(StoreUnavailable, match="read-only"):
                await store.ping()
            assert (await house.http.get("/jobs")).status_code == 200
        await said(postgres, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
        healed = time.monotonic()

        async def promoted() -> bool:
            return await submitted(house) == 202

        await until(promoted, BACK)
        await store.ping()
        report("B33", scale=f"{LASTS:g} s, back after {time.monotonic() - healed:.2f} s", faults=refused)


async def test_only_the_old_sessions_are_read_only(postgres: ThrowawayPostgres, report: Report) -> None:
    """As where the address leads to the new primary, and the pool still holds the old one's: whichever write comes first
    pays for all, and none is lost for good."""
    async with PostgresStore.from_url(f"{postgres.url}?pool_size=5") as store:
        old = await _read_only_sessions(store)
        assert len(old) > 1
        with pytest.raises(StoreUnavailable):
            await store.insert([job()])
        for _ in range(2 * len(old)):
            [stored] = await store.insert([job()])
            assert stored.created
        assert not old & await _sessions(store)
        report("B33", scale=f"{len(old)} sessions of an old primary", faults=len(old))


async def _read_only_sessions(store: PostgresStore) -> set[int]:

    asked = "SELECT pg_backend_pid() AS pid, set_config('default_transaction_read_only', 'on', false), pg_sleep(0.05)"
    found = await asyncio.gather(*(store._db.fetch(asked) for _ in range(5)))
    return {row["pid"] for [row] in found}


async def _sessions(store: PostgresStore) -> set[int]:

    found = await asyncio.gather(*(store._db.fetch("SELECT pg_backend_pid() AS pid, pg_sleep(0.05)") for _ in range(5)))
    return {row["pid"] for [row] in found}
