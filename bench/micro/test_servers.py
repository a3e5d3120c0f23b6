"""What goes to a server, beside the least that could be said to it: the reference's statements, a GET."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from redis.asyncio import Redis

from bench import reference
from bench.micro.conftest import House
from bench.systems import PAYLOAD
from taskflow.adapters.pyrate.redis import RedisLimiter
from taskflow.adapters.sql import PostgresStore
from taskflow.core.ids import new_id
from taskflow.core.job import Claim, NewJob, Outcome, RunsIn, State
from taskflow.core.lifecycle import Settlement
from taskflow.ports.limiter import Rate
from taskflow.ports.store import WorkerInfo
from taskflow.tasks.jsontext import dumps
from tests import servers
from tests.adapters.postgres_house import own_schema, url_of

ROWS: Final = 200
ROUNDS: Final[dict[str, int]] = {"rounds": 60, "warmup_rounds": 5}
TEXT: Final = dumps(PAYLOAD)
WORKER: Final = WorkerInfo(id="w", host="h", pid=1, queues=["default"], tasks=["t"], slots={"async": 200}, lease=600)


@pytest.fixture
def schema() -> Iterator[str]:
    """TaskFlow's tables."""
    with own_schema() as name:
        yield name


@pytest.fixture
def store(house: House, schema: str) -> Iterator[PostgresStore]:
    """With a worker that knows its task."""

    async def opened() -> PostgresStore:
        store = await PostgresStore.from_url(url_of(schema)).__aenter__()
        await store.ensure_queues(["default"])
        await store.register(WORKER)
        return store

    made = house.run(opened())
    yield made
    house.run(made.__aexit__(None, None, None))


@pytest.fixture
def raw(house: House) -> Iterator[asyncpg.Connection]:
    """A connection to the reference's table."""
    with own_schema(installed=False) as name:

        async def opened() -> asyncpg.Connection:
            connection = await asyncpg.connect(servers.url_of("postgresql"), server_settings={"search_path": name})
            await connection.execute(f"CREATE SCHEMA {name}")
            await connection.execute(reference.TABLE)
            return connection

        connection = house.run(opened())
        yield connection
        house.run(connection.close())


def jobs() -> list[NewJob]:
    """New ones."""
    return [NewJob(new_id(), "t", "default", 5, RunsIn.ASYNC, TEXT, 3, 60.0) for _ in range(ROWS)]


def rows() -> tuple[list[Any], list[str], list[str]]:
    """The same, as the reference stores them."""
    return [reference.uuid7() for _ in range(ROWS)], ["t"] * ROWS, [TEXT] * ROWS


@pytest.mark.benchmark(group="insert (200)")
def test_insert(benchmark: BenchmarkFixture, house: House, store: PostgresStore) -> None:
    """Two hundred jobs in a commit."""
    benchmark.pedantic(house.calling(store.insert), setup=lambda: ((jobs(),), {}), **ROUNDS)


@pytest.mark.benchmark(group="insert (200)")
def test_raw_insert(benchmark: BenchmarkFixture, house: House, raw: asyncpg.Connection) -> None:
    """By the reference's statement."""

    def insert(*given: Any) -> Any:
        return raw.execute(reference.INSERT, *given)

    benchmark.pedantic(house.calling(insert), setup=lambda: (rows(), {}), **ROUNDS)


@pytest.mark.benchmark(group="claim (200)")
def test_claim(benchmark: BenchmarkFixture, house: House, store: PostgresStore) -> None:
    """Two hundred of them."""

    def queued() -> Any:
        some = jobs()
        house.run(store.insert(some))
        return ("w", [job.id for job in some], ["t"]), {}

    claimed: list[Claim] = benchmark.pedantic(house.calling(store.claim), setup=queued, **ROUNDS)
    assert len(claimed) == ROWS


@pytest.mark.benchmark(group="claim (200)")
def test_raw_claim(benchmark: BenchmarkFixture, house: House, raw: asyncpg.Connection) -> None:
    """By the reference's statement."""

    def queued() -> Any:
        some = rows()
        house.run(raw.execute(reference.INSERT, *some))
        return (some[0],), {}

    def claim(ids: Any) -> Any:
        return raw.fetch(reference.CLAIM, ids, "w")

    assert len(benchmark.pedantic(house.calling(claim), setup=queued, **ROUNDS)) == ROWS


@pytest.mark.benchmark(group="settle (200)")
def test_settle(benchmark: BenchmarkFixture, house: House, store: PostgresStore) -> None:
    """Two hundred successes with a result: moved to their table, each with its attempt."""

    def running() -> Any:
        some = jobs()
        house.run(store.insert(some))
        claims = house.run(store.claim("w", [job.id for job in some], ["t"]))
        return (
            [
                Settlement(each.id, each.epoch, "w", Outcome.SUCCEEDED, State.SUCCEEDED, result='{"ok":true}')
                for each in claims
            ],
        ), {}

    settled = benchmark.pedantic(house.calling(store.settle), setup=running, **ROUNDS)
    assert {each.state for each in settled} == {State.SUCCEEDED}


@pytest.mark.benchmark(group="settle (200)")
def test_raw_settle(benchmark: BenchmarkFixture, house: House, raw: asyncpg.Connection) -> None:
    """By the reference's statement, in place and without a history."""

    def running() -> Any:
        some = rows()
        house.run(raw.execute(reference.INSERT, *some))
        house.run(raw.execute(reference.CLAIM, some[0], "w"))
        return (some[0], [1] * ROWS, ['{"ok":true}'] * ROWS), {}

    def settle(*given: Any) -> Any:
        return raw.execute(reference.SETTLE, *given)

    assert benchmark.pedantic(house.calling(settle), setup=running, **ROUNDS) == f"UPDATE {ROWS}"


@asynccontextmanager
async def limiting() -> AsyncIterator[RedisLimiter]:
    """In a namespace of its own."""
    async with RedisLimiter.from_url(servers.url_of("redis"), namespace=f"bench-{new_id()}") as limiter:
        yield limiter


@pytest.mark.benchmark(group="limit")
def test_limit(benchmark: BenchmarkFixture, house: House) -> None:
    """One request's question."""
    rate, context = Rate(1_000_000, 60.0, 1_000_000), limiting()
    limiter = house.run(context.__aenter__())
    benchmark(house.calling(lambda: limiter.check("somebody", rate)))
    house.run(context.__aexit__(None, None, None))


@pytest.mark.benchmark(group="limit")
def test_raw_limit(benchmark: BenchmarkFixture, house: House) -> None:
    """A GET of the same client library."""
    client = Redis.from_url(servers.url_of("redis"))
    benchmark(house.calling(lambda: client.get("nothing")))
    house.run(client.aclose())
