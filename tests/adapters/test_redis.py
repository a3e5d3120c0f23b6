"""Redis as cache and as event service: the contracts, and what its URLs may say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from taskflow.adapters.redis import RedisCache, RedisEvents
from taskflow.adapters.shared.redis_link import CONNECTIONS
from taskflow.core.errors import TaskFlowError
from taskflow.ports.cache import Cache
from taskflow.ports.events import Events
from taskflow.testing.cache import CacheSuite
from taskflow.testing.events import EventsSuite, following
from taskflow.testing.facts import until

pytestmark = pytest.mark.adapter("redis")


class TestRedisCache(CacheSuite):
    """The contract."""

    @pytest.fixture
    async def cache(self, redis_url: str, redis_namespace: str) -> AsyncIterator[Cache]:
        """An opened one."""
        async with RedisCache.from_url(redis_url, namespace=redis_namespace) as opened:
            yield opened


class TestRedisEvents(EventsSuite):
    """The contract."""

    @pytest.fixture
    async def events(self, redis_url: str, redis_namespace: str) -> AsyncIterator[Events]:
        """An opened one."""
        async with RedisEvents.from_url(redis_url, namespace=redis_namespace) as opened:
            yield opened


async def test_keys_lie_under_the_namespace(redis_url: str, redis_namespace: str) -> None:
    """Two installations on one Redis do not see each other, and every key has an end."""
    async with (
        RedisCache.from_url(redis_url, namespace=redis_namespace) as cache,
        RedisCache.from_url(redis_url, namespace=f"{redis_namespace}:other") as other,
        Redis.from_url(redis_url) as client,
    ):
        await cache.put("k", b"1", 30)
        assert await other.get("k") is None
        assert 0 < await client.pttl(f"{redis_namespace}:cache:k") <= 30_000
        await cache.put("k", b"1", 0)
        assert await client.exists(f"{redis_namespace}:cache:k") == 0


async def test_topics_lie_under_the_namespace(redis_url: str, redis_namespace: str) -> None:
    """What one installation says the other does not hear."""
    async with (
        RedisEvents.from_url(redis_url, namespace=redis_namespace) as events,
        RedisEvents.from_url(redis_url, namespace=f"{redis_namespace}:other") as other,
        events.subscribe("t") as messages,
    ):
        await other.publish("t", b"theirs")
        await events.publish("t", b"ours")
        assert await following(messages, 1) == [("t", b"ours")]


async def test_processes_hear_each_other(redis_url: str, redis_namespace: str) -> None:
    """Also when a topic is left and entered again at once."""
    async with (
        RedisEvents.from_url(redis_url, namespace=redis_namespace) as here,
        RedisEvents.from_url(redis_url, namespace=redis_namespace) as there,
    ):
        for n in range(50):
            async with here.subscribe("t") as messages:
                await there.publish("t", b"%d" % n)
                assert await following(messages, 1) == [("t", b"%d" % n)]


async def test_hundreds_of_waiters_share_one_connection(redis_url: str, redis_namespace: str) -> None:
    """And each hears its own topic."""
    async with (
        RedisEvents.from_url(redis_url, namespace=redis_namespace) as events,
        Redis.from_url(redis_url) as client,
    ):
        everybody_in = asyncio.Barrier(301)

        async def wait_for(topic: str) -> list[tuple[str, bytes]]:
            async with events.subscribe(topic) as messages:
                await everybody_in.wait()
                return await following(messages, 1)

        waiting = [asyncio.create_task(wait_for(f"job:{n}")) for n in range(300)]
        async with asyncio.timeout(10):
            await everybody_in.wait()
        channels = await client.pubsub_channels(f"{redis_namespace}:*")
        assert len(channels) == 300
        for n in range(300):
            await events.publish(f"job:{n}", b"%d" % n)
        assert await asyncio.gather(*waiting) == [[(f"job:{n}", b"%d" % n)] for n in range(300)]

        async def nobody_listens() -> bool:
            return not await client.pubsub_channels(f"{redis_namespace}:*")

        await until(nobody_listens)


async def test_many_calls_at_once_wait_for_their_turn(redis_url: str, redis_namespace: str) -> None:
    """None of them fails for want of a connection, and there are few of those."""
    async with RedisCache.from_url(redis_url, namespace=redis_namespace) as cache:
        await cache.put("k", b"1", 60)
        async with Redis.from_url(redis_url) as client:
            assert await asyncio.gather(*(cache.get("k") for _ in range(200))) == [b"1"] * 200
            mine = [c for c in await client.client_list() if c["name"] == "taskflow-cache"]
            assert 1 <= len(mine) <= 3 * CONNECTIONS  # other runs of these tests may be connected too


async def test_a_call_that_is_cancelled_is_and_leaves_no_answer_to_the_next(
    redis_url: str, redis_namespace: str
) -> None:
    """Whatever it was doing; the next reads what it asked for."""
    async with RedisCache.from_url(redis_url, namespace=redis_namespace) as cache:
        for n in range(20):
            await cache.put(f"k{n}", b"%d" % n, 60)
        for n in range(100):
            call = asyncio.create_task(cache.get(f"k{n % 20}"))
            for _ in range(n % 7):
                await asyncio.wait([call], timeout=0)
            asked = call.cancel()
            await asyncio.wait([call])
            assert call.cancelled() == asked
            assert await cache.get(f"k{(n + 1) % 20}") == b"%d" % ((n + 1) % 20)


@pytest.mark.parametrize("adapter", [RedisCache, RedisEvents])
@pytest.mark.parametrize(
    "wrong",
    [
        "redis://",
        "redis:///0",
        "redis://user:hunter2@host/zero",
        "redis://user:hunter2/x@host:6379/0",
        "redis://user:hunter2@host:port/0",
        "redis://:hunter2@host/0?retry=5",
        "redis://:hunter2@host/0?ssl_ca_certs=/ca.pem",
        "rediss://:hunter2@host/0?socket_timeout=1",
        "http://:hunter2@host",
        "unix:///run/redis.sock",
    ],
)
def test_what_names_no_redis_is_refused(adapter: type[RedisCache | RedisEvents], wrong: str) -> None:
    """With the right form, and without the password."""
    with pytest.raises(ValueError, match=r"rediss?://") as caught:
        adapter.from_url(wrong)
    assert "hunter2" not in str(caught.value)


def test_nothing_happens_before_it_is_opened() -> None:
    """A constructor does no I/O: it needs no loop, no server and no certificate."""
    RedisCache.from_url("rediss://u:p%2Fw@nowhere.invalid:1/3?ssl_ca_certs=/no/such/file.pem")
    RedisEvents.from_url("redis://nowhere.invalid")


async def test_a_server_that_is_not_there_does_not_stop_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """Health tells, without the password."""
    caplog.set_level("WARNING", logger="taskflow")
    async with RedisCache.from_url("redis://u:hunter2@127.0.0.1:1/0") as cache:
        assert await cache.get("k") is None
        await cache.put("k", b"1", 60)
        with pytest.raises(TaskFlowError, match=r"Redis at 127\.0\.0\.1:1/0 does not answer") as caught:
            await cache.ping()
    assert "hunter2" not in str(caught.value) + caplog.text
