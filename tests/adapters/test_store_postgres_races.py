"""Many workers on one PostgreSQL: each job is had once, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.core.job import Claim, Idempotency, Outcome, State
from taskflow.testing.store import GAP, LANE, end, job, worker
from taskflow.testing.store_facts import shown
from tests.adapters.postgres_house import emptied, outside, own_schema, url_of
from tests.support import until

pytestmark = pytest.mark.adapter("postgresql")


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A schema for all tests of this file."""
    with own_schema() as made:
        yield made


@pytest.fixture
async def stores(name: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    """Two processes' stores."""
    await emptied(name)
    url = url_of(name, pool_size="5")
    async with PostgresStore.from_url(url) as one, PostgresStore.from_url(url) as other:
        yield one, other


async def test_many_claims_of_the_same_tickets_start_each_job_once(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    """By tickets in any order, and by draws at the same time."""
    new = [job() for _ in range(300)]
    await stores[0].insert(new)
    workers = [(store, await worker(store)) for store in stores * 4]

    async def claim(store: PostgresStore, me: str, index: int) -> list[Claim]:
        if index % 2:
            return await store.draw(me, [LANE], ["t"], 100)
        ids = [one.id for one in new]
        random.Random(index).shuffle(ids)
        return await store.claim(me, ids, ["t"])

    claims = [
        claim
        for found in await asyncio.gather(*(claim(*who, index) for index, who in enumerate(workers)))
        for claim in found
    ]
    while more := await stores[0].draw(workers[0][1], [LANE], ["t"], 100):
        claims += more
    assert Counter(claim.id for claim in claims) == {one.id: 1 for one in new}
    assert {claim.epoch for claim in claims} == {1}


async def test_claims_settlements_cancels_and_sweeps_do_not_stand_in_each_others_way(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    """In batches whose orders differ, on the same rows; everything ends, and nothing had to be undone by the server."""
    one, other = stores
    new = [job() for _ in range(200)]
    await one.insert(new)
    conflicts = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = (await one._db.fetch(conflicts))[0]["deadlocks"]

    async def work(store: PostgresStore, seed: int) -> None:
        rng, me = random.Random(seed), await worker(store)
        for _ in range(200):
            ids = rng.sample([job.id for job in new], 60)
            claims = await store.claim(me, ids, ["t"])
            claims += await store.draw(me, [LANE], ["t"], 20)
            await store.set_progress([(claim.id, claim.epoch, me, "{}") for claim in claims])
            rng.shuffle(claims)
            outcomes = (Outcome.SUCCEEDED, Outcome.INTERRUPTED, Outcome.FAILED)
            await store.settle([end(claim, rng.choice(outcomes), result="1", after=0.0) for claim in claims])
            await store.cancel("default", rng.choice(new).id)
            await store.promote()
            await store.sweep(GAP)
            if not await store._db.fetch("SELECT FROM jobs WHERE state <> 'failed' LIMIT 1"):
                return

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(store, seed) for seed, store in enumerate((one, other, one, other))))
    assert {(await shown(one, job.id)).state for job in new} <= {State.SUCCEEDED, State.CANCELLED, State.FAILED}
    assert (await one._db.fetch(conflicts))[0]["deadlocks"] == before


async def test_a_claim_waits_for_a_settle_of_its_row_and_no_draw_does(
    stores: tuple[PostgresStore, PostgresStore], name: str
) -> None:
    """A ticket is worth waiting for; a draw takes what is free."""
    store = stores[0]
    me, held, free = await worker(store), job(), job()
    await store.insert([held, free])
    async with outside(name) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch("SELECT FROM jobs WHERE id = $1 FOR UPDATE", held.id)
        waiting = asyncio.create_task(store.claim(me, [held.id], ["t"]))
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
        await until(lambda: connection.fetchval(blocked, connection.get_server_pid()))
        assert [claim.id for claim in await store.draw(me, [LANE], ["t"], 9)] == [free.id]
        await transaction.rollback()
    assert [claim.id for claim in await waiting] == [held.id]


async def test_keys_in_any_order_make_one_job_each(stores: tuple[PostgresStore, PostgresStore]) -> None:
    """Batches that want the same keys, each in its own order, all at once."""
    keys = [Idempotency("jobs", f"k{n}", "f") for n in range(40)]

    async def submit(index: int) -> list[tuple[str, str]]:
        mine = random.Random(index).sample(keys, len(keys))
        answers = await stores[index % 2].insert([job(idempotency=key) for key in mine])
        return [(key.key, answer.job_id) for key, answer in zip(mine, answers, strict=True)]

    told = {pair for answers in await asyncio.gather(*(submit(index) for index in range(8))) for pair in answers}
    assert len(told) == len(keys)


async def test_of_many_sweeps_at_once_each_row_is_rescued_by_one(
    stores: tuple[PostgresStore, PostgresStore],
) -> None:
    """Each crash is counted once."""
    me = await worker(stores[0])
    await stores[0].insert([job() for _ in range(50)])
    claims = await stores[0].draw(me, [LANE], ["t"], 50)
    await stores[0]._db.fetch("UPDATE workers SET state = 'dead'")
    swept = await asyncio.gather(*(store.sweep(GAP) for store in stores * 3))
    assert sum(one.rescued for one in swept) == 50
    assert {(await shown(stores[0], claim.id)).crashes for claim in claims} == {1}
