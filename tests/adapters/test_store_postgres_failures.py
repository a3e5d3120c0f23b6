"""PostgreSQL goes away, comes back as somebody else, or does not answer: nothing is doubled, lost or waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import asyncpg
import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.adapters.sql.postgres import insert
from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.core.ids import new_id
from taskflow.core.job import Idempotency, Outcome, State
from taskflow.testing.store import claimed, end, job, worker
from taskflow.testing.store_facts import shown
from tests.adapters.postgres_house import emptied, outside, own_schema, url_of
from tests.servers import POSTGRES
from tests.support import until
from tests.throwaway import free_ports
from tests.throwaway.proxy import Proxy, through

pytestmark = pytest.mark.adapter("postgresql")


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A schema for all tests of this file."""
    with own_schema() as made:
        yield made


@pytest.fixture
async def store(name: str) -> AsyncIterator[PostgresStore]:
    """A store that its server knows by a name of its own."""
    await emptied(name)
    async with PostgresStore.from_url(url_of(name, pool_size="3"), namespace=f"tf-{new_id()}") as store:
        yield store


@pytest.fixture
async def behind(name: str) -> AsyncIterator[tuple[Proxy, PostgresStore]]:
    """A store behind a proxy that can fail."""
    await emptied(name)
    async with (
        Proxy.before(POSTGRES) as proxy,
        PostgresStore.from_url(through(url_of(name, sslmode="disable"), proxy)) as store,
    ):
        yield proxy, store


async def count(name: str) -> int:
    """How many jobs there are."""
    async with outside(name) as connection:
        return int(await connection.fetchval("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM finished)"))


async def test_a_server_that_ends_its_sessions_is_left_at_once(store: PostgresStore, name: str) -> None:
    """Those that were idle and those that were at work; the next call has a new one."""
    await asyncio.gather(*(store.queue_names() for _ in range(3)))
    working = asyncio.create_task(store._db.fetch("SELECT pg_sleep(5)"))
    mine = "FROM pg_stat_activity WHERE application_name = $1"
    async with outside(name) as connection:
        asked = f"SELECT count(*) {mine} AND wait_event = 'PgSleep'"
        await until(lambda: connection.fetchval(asked, store._db.name))
        await connection.fetch(f"SELECT pg_terminate_backend(pid) {mine}", store._db.name)
    with pytest.raises(StoreUnavailable):
        await working
    await store.ping()
    [stored] = await store.insert([job()])
    assert stored.created


@pytest.mark.parametrize(
    "broken",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.ProtocolError("unexpected message"),
        asyncpg.InterfaceError("another operation is in progress"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_broken_connection_raises_is_an_outage(store: PostgresStore, broken: Exception) -> None:
    """Also what the driver thinks is its own fault: a connection cut in the middle of something is in no state at all."""

    async def work(_: object) -> None:
        raise broken

    with pytest.raises(StoreUnavailable):
        await store._db.run(work)
    await store.ping()


async def test_a_server_that_became_read_only_is_left(store: PostgresStore) -> None:
    """As after a fail-over: its sessions answer reads, and lead to no store. The next call has a new one."""
    read_only = "SELECT set_config('default_transaction_read_only', 'on', false)"
    for asked in (store.ping, lambda: store.insert([job()])):
        await store._db.fetch(read_only)
        assert await store.queue_names() == {}
        with pytest.raises(StoreUnavailable, match="read-only"):
            await asked()
        await store.ping()
        [stored] = await store.insert([job()])
        assert stored.created


@pytest.mark.parametrize(
    ("kind", "told"), [("alike", b"SELECT 1"), ("unlike", b"INSERT 0 5"), ("keyed", b"INSERT 0 5")]
)
async def test_a_lost_reply_is_made_up_for(
    behind: tuple[Proxy, PostgresStore], name: str, kind: str, told: bytes
) -> None:
    """The batch was written and nobody heard of it: it is answered as stored, once. Jobs that differ in their payloads
    only go by a statement of their own."""
    proxy, store = behind
    await store.ping()
    batch = [
        job(
            priority=n if kind == "unlike" else 5,
            idempotency=Idempotency("jobs", f"k{n}", "f") if kind == "keyed" else None,
        )
        for n in range(5)
    ]
    proxy.lose(containing=told)
    stored = await store.insert(batch)
    assert proxy.losing == 0
    assert [(one.job_id, one.created, one.state) for one in stored] == [(new.id, True, State.QUEUED) for new in batch]
    assert all(one.ticket for one in stored)
    assert await count(name) == 5


async def test_a_batch_that_never_arrived_is_sent_again(behind: tuple[Proxy, PostgresStore], name: str) -> None:
    """The connections were dead without anybody having noticed."""
    proxy, store = behind
    await store.ping()
    proxy.cut()
    [stored] = await store.insert([job()])
    assert stored.created
    assert await count(name) == 1


async def test_a_job_that_ran_before_its_submit_was_answered_is_not_doubled(store: PostgresStore, name: str) -> None:
    """Not even where it is over already when the batch is sent again."""
    me = await worker(store)
    claim = await claimed(store, me)
    await store.settle([end(claim, Outcome.SUCCEEDED, result="1")])
    again: Any = job(id=claim.id)
    new = job()
    stored = await store._db.run(
        lambda connection: insert._insert(connection, [again, new], None, again=True), transaction=True
    )
    assert [(one.created, one.state) for one in stored] == [(True, State.SUCCEEDED), (True, State.QUEUED)]
    assert stored[0].ticket is None
    assert (await shown(store, claim.id)).state is State.SUCCEEDED
    assert await count(name) == 2


async def test_a_silent_server_is_told_within_two_seconds(behind: tuple[Proxy, PostgresStore]) -> None:
    """A submit is not kept waiting by a server that accepts and says nothing."""
    proxy, store = behind
    await store.ping()
    proxy.swallow()
    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await store.insert([job()])
    assert time.monotonic() - start < 2.5
    assert proxy.swallowed
    proxy.swallow(False)
    proxy.cut()
    [stored] = await store.insert([job()])
    assert stored.created


async def test_half_open_connections_cost_one_wait(behind: tuple[Proxy, PostgresStore]) -> None:
    """The server has ended them, and nobody hears of it: when one does not answer, none that lies idle is believed."""
    proxy, store = behind
    await asyncio.gather(*(store.ping() for _ in range(8)))
    proxy.abandon()
    assert proxy.faults["abandoned"] > 2
    [stored] = await store.insert([job()])
    assert stored.created
    start = time.monotonic()
    for _ in range(8):
        assert await store.queue_names() == {}
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(("calls", "kept"), [(["slow"], 2), (["slow", "quick", "slow"], 1), (["slow", "slow"], 0)])
async def test_one_slow_call_ends_its_own_connection_only(
    store: PostgresStore, calls: Sequence[str], kept: int
) -> None:
    """Others would have to connect anew, to a server that is busy already. Two in a row are the network."""

    async def sessions() -> set[int]:
        rows = await asyncio.gather(*(store._db.fetch("SELECT pg_backend_pid(), pg_sleep(0.3)") for _ in range(3)))
        return {row["pg_backend_pid"] for [row] in rows}

    before = await sessions()
    assert len(before) == 3
    for call in calls:
        if call == "quick":
            await store.ping()
        else:
            with pytest.raises(StoreUnavailable, match="in time"):
                await store._db.fetch("SELECT pg_sleep(4)", within=0.3)
    assert len(before & await sessions()) == kept


async def test_half_open_connections_go_together_under_many_calls(behind: tuple[Proxy, PostgresStore]) -> None:
    """Each of them has its caller, who waits once; whoever comes next meets none of them."""
    proxy, store = behind
    await asyncio.gather(*(store.ping() for _ in range(8)))
    proxy.abandon()
    assert proxy.faults["abandoned"] > 2
    first = await asyncio.gather(*(store.queue_names() for _ in range(2)), return_exceptions=True)
    assert [type(answer).__name__ for answer in first] == ["Lost"] * 2
    start = time.monotonic()
    assert await asyncio.gather(*(store.queue_names() for _ in range(3))) == [{}] * 3
    assert time.monotonic() - start < 2


async def test_what_somebody_waits_for_is_answered_soon(behind: tuple[Proxy, PostgresStore]) -> None:
    """By an error, where the server says nothing."""
    proxy, store = behind
    await store.ping()
    proxy.freeze()
    asked = (store.get("default", "x"), store.tasks(), store.queues(), store.workers(), store.segments("x"))
    start = time.monotonic()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers if not isinstance(answer, StoreUnavailable)] == []
    assert time.monotonic() - start < 4
    assert proxy.faults["frozen requests"]


async def test_what_the_driver_calls_its_own_bug_is_an_outage(store: PostgresStore) -> None:
    """Seen where a server dies in the middle of its greetings: the connection is good for nothing, and goes."""
    used = []

    async def broken(connection: Any) -> None:
        used.append(await connection.fetchval("SELECT pg_backend_pid()"))
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store._db.run(broken)
    assert len(set(used)) == 2
    await store.ping()


async def test_a_server_that_is_down_is_told_at_once() -> None:
    """At start, and which database it is about."""
    [port] = free_ports(1)
    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        async with PostgresStore.from_url(f"postgresql://root@127.0.0.1:{port}/test"):
            pass
    assert time.monotonic() - start < 3


async def test_a_full_pool_is_no_place_to_wait(name: str) -> None:
    """Whoever finds no connection within a second is told so; nothing is left behind."""
    async with PostgresStore.from_url(url_of(name, pool_size="2")) as store:
        busy = [asyncio.create_task(store._db.fetch("SELECT pg_sleep(2)")) for _ in range(2)]
        await until(lambda: store._db._pool is not None and store._db._pool.get_idle_size() == 0)
        with pytest.raises(StoreUnavailable, match="in time"):
            await store.queue_names()
        await asyncio.gather(*busy)
        assert await store.queue_names() == {}


async def test_a_caller_that_goes_away_leaves_a_usable_pool(store: PostgresStore) -> None:
    """Cancelled in the middle of a statement, more often than there are connections."""
    for _ in range(6):
        task = asyncio.create_task(store._db.fetch("SELECT pg_sleep(5)"))
        await until(lambda: store._db._pool is not None and store._db._pool.get_size() > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.ping()


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": '"\x00"'},
        {"task": "\x00"},
        {"payload": '"\ud800"'},
        {"max_attempts": 1 << 40},
        {"priority": 99},
        {"priority": 1 << 20},
        {"metadata": "\ud800"},
    ],
)
async def test_what_can_never_be_stored_is_refused(store: PostgresStore, changes: dict[str, Any]) -> None:
    """Whoever notices first, the driver or the server; a good row of the batch is not stored either."""
    good = job()
    with pytest.raises(DataRejected):
        await store.insert([good, job(**changes)])
    assert await store.get("default", good.id) is None
    with pytest.raises(DataRejected):
        await store.insert([good, good])


async def test_numbers_of_any_size_come_back_as_they_went(store: PostgresStore) -> None:
    """To the digit, in payload, result, tags and metadata."""
    text = '{"a": 123456789012345678901234567890, "b": -0.0, "c": 1e400, "z": 1, "a2": 9223372036854775808}'
    me = await worker(store)
    claim = await claimed(store, me, payload=text, metadata=text)
    await store.settle([end(claim, Outcome.SUCCEEDED, result=text)])
    after = await shown(store, claim.id)
    assert (claim.payload, after.payload, after.metadata, after.result) == (text,) * 4


async def test_the_database_itself_refuses_an_arrow_that_does_not_exist(store: PostgresStore, name: str) -> None:
    """The last guard of the lifecycle is not our code."""
    new = job()
    await store.insert([new])
    async with outside(name) as connection:
        with pytest.raises(asyncpg.CheckViolationError, match="no such transition"):
            await connection.execute("UPDATE jobs SET state = 'failed' WHERE id = $1", new.id)
