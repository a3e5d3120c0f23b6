"""Redis goes, comes back, forgets, and loses answers: nothing but speed changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from taskflow.adapters.pyrate.redis import RedisLimiter
from taskflow.adapters.redis import RedisCache, RedisEvents
from taskflow.adapters.shared import redis_link
from taskflow.adapters.shared.redis_link import RedisLink
from taskflow.core.errors import TaskFlowError
from taskflow.testing.events import following
from taskflow.testing.facts import until
from taskflow.testing.limiter import SLOW
from tests.throwaway import ThrowawayRedis, own
from tests.throwaway.proxy import Proxy

pytestmark = pytest.mark.adapter("redis")


@pytest.fixture
async def proxy(own_redis: ThrowawayRedis) -> AsyncIterator[Proxy]:
    """What stands before it."""
    async with Proxy(own_redis.port) as opened:
        yield opened


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_cache_that_is_away_has_nothing_and_costs_nothing(
    own_redis: ThrowawayRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """One line when it goes, one when it is back; no call waits in between, and none raises."""
    async with RedisCache.from_url(own_redis.url) as cache:
        await cache.put("k", b"1", 60)
        own_redis.kill()
        assert await cache.get("k") is None
        began = time.monotonic()
        for _ in range(1_000):
            assert await cache.get("k") is None
            await cache.put("k", b"2", 60)
            await cache.delete("k")
        assert time.monotonic() - began < 3  # that is 1 ms a call
        with pytest.raises(TaskFlowError, match="does not answer"):
            await cache.ping()
        assert len(told(caplog)) == 1
        await own_redis.start_beside()

        async def works() -> bool:
            await cache.put("k", b"3", 60)
            return await cache.get("k") == b"3"

        await until(works)
        await cache.ping()
    lost, back = told(caplog)
    assert "(cache) lost: " in lost
    assert "(cache) is back" in back


async def test_a_redis_that_hangs_costs_one_deadline(own_redis: ThrowawayRedis) -> None:
    """Whoever comes after the first does not wait."""
    async with RedisCache.from_url(own_redis.url) as cache:
        await cache.put("k", b"1", 60)
        own_redis.pause()
        try:
            began = time.monotonic()
            assert await asyncio.gather(*(cache.get("k") for _ in range(100))) == [None] * 100
            assert await cache.get("k") is None
            assert time.monotonic() - began < 3 * redis_link.CALL
        finally:
            own_redis.go_on()

        async def works() -> bool:
            return await cache.get("k") == b"1"

        await until(works)


async def test_subscribers_hear_again_after_an_outage(
    own_redis: ThrowawayRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """Those from before it and those from within it; what was said meanwhile is lost."""
    async with RedisEvents.from_url(own_redis.url) as events, events.subscribe("before") as before:
        await events.publish("before", b"1")
        assert await following(before, 1) == [("before", b"1")]
        own_redis.kill()
        await events.publish("before", b"lost")
        async with events.subscribe("within") as within:
            await events.publish("within", b"lost")
            await own_redis.start_beside()
            await until(lambda: _answers(events))
            async with events.subscribe("after"):
                pass  # the server knows all subscriptions once it knows this one
            await events.publish("before", b"2")
            await events.publish("within", b"3")
            assert await following(before, 1) == [("before", b"2")]
            assert await following(within, 1) == [("within", b"3")]
    assert len(told(caplog)) == 2


async def _answers(events: RedisEvents) -> bool:
    try:
        await events.ping()
    except TaskFlowError:
        return False
    return True


async def test_a_cut_connection_is_made_anew(own_redis: ThrowawayRedis, proxy: Proxy) -> None:
    """The one that listens above all."""
    async with RedisEvents.from_url(f"redis://127.0.0.1:{proxy.port}") as events, events.subscribe("t") as messages:
        for n in range(3):
            proxy.cut()
            before = proxy.accepted
            await until(lambda before=before: proxy.accepted > before)  # type: ignore[misc]
            await until(lambda: _answers(events))
            async with events.subscribe("other"):
                pass
            await events.publish("t", b"%d" % n)
            assert await following(messages, 1) == [("t", b"%d" % n)]


async def test_a_listener_that_hears_nothing_at_all_connects_anew(
    own_redis: ThrowawayRedis, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-open connection looks like a quiet one: the server is asked for a sign of life."""
    monkeypatch.setattr("taskflow.adapters.redis.listener.QUIET", 0.1)
    async with RedisEvents.from_url(f"redis://127.0.0.1:{proxy.port}") as events, events.subscribe("t") as messages:
        before = proxy.accepted
        proxy.swallow()
        await until(lambda: proxy.accepted > before)
        proxy.swallow(False)
        await until(lambda: _answers(events))
        async with events.subscribe("other"):
            pass
        await events.publish("t", b"1")
        assert await following(messages, 1) == [("t", b"1")]


async def test_a_listener_that_is_looked_at_all_the_time_is_no_silent_one(
    own_redis: ThrowawayRedis, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a balancer's checks of its health, or by waiters of a job that come and go."""
    monkeypatch.setattr("taskflow.adapters.redis.listener.QUIET", 0.2)
    async with RedisEvents.from_url(f"redis://127.0.0.1:{proxy.port}") as events, events.subscribe("t"):
        await events.ping()
        before, end = proxy.accepted, time.monotonic() + 1
        while time.monotonic() < end:
            await events.ping()
        assert proxy.accepted == before
    assert told(caplog) == []


async def test_no_command_is_sent_twice(own_redis: ThrowawayRedis, proxy: Proxy) -> None:
    """An answer that is lost does not double an INCR, as redis-py does unless it is told not to."""
    async with RedisLink(f"redis://127.0.0.1:{proxy.port}", "test") as link:
        proxy.lose()
        assert await link.call(lambda redis: redis.incr("n")) is None
        async with Redis.from_url(own_redis.url) as client:
            assert await client.get("n") == b"1"
        await until(lambda: not link.away())
        assert await link.call(lambda redis: redis.incr("n")) == 2
    async with Proxy(own_redis.port) as other, Redis(port=other.port) as plain:
        await plain.ping()
        other.lose()
        # The trap is still there: once it is not, the link may be simpler.
        assert await plain.incr("m") == 2


async def test_a_flush_changes_nothing_but_speed(own_redis: ThrowawayRedis) -> None:
    """Values are gone, buckets are full, scripts are sent again, subscriptions stay."""
    async with (
        RedisCache.from_url(own_redis.url) as cache,
        RedisLimiter.from_url(own_redis.url) as limiter,
        RedisEvents.from_url(own_redis.url) as events,
        events.subscribe("t") as messages,
    ):
        await cache.put("k", b"1", 60)
        await limiter.check("k", SLOW, 5)
        own_redis.ask("SCRIPT", "FLUSH")
        assert not (await limiter.check("k", SLOW)).allowed
        own_redis.ask("FLUSHALL")
        assert await cache.get("k") is None
        assert (await limiter.check("k", SLOW, 5)).allowed
        await cache.put("k", b"2", 60)
        assert await cache.get("k") == b"2"
        await events.publish("t", b"1")
        assert await following(messages, 1) == [("t", b"1")]


async def test_a_limiter_without_redis_still_limits(own_redis: ThrowawayRedis) -> None:
    """In this process; and in Redis again when it is back."""
    async with RedisLimiter.from_url(own_redis.url) as limiter:
        assert (await limiter.check("k", SLOW, 3)).remaining == 2
        own_redis.kill()
        verdicts = [await limiter.check("k", SLOW) for _ in range(6)]
        assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False]
        await own_redis.start_beside()

        async def judged_in_redis() -> bool:
            return (await limiter.check("k", SLOW, 0)).remaining == 5

        await until(judged_in_redis)
        await limiter.ping()


async def test_what_a_redis_refuses_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    """A full one still reads, and what it refuses is told once."""
    with own(ThrowawayRedis("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")) as server:
        async with RedisCache.from_url(server.url) as cache:
            await cache.put("k", b"1", 60)
            for n in range(100):
                await cache.put(f"k{n}", bytes(100_000), 60)
                assert await cache.get("k") == b"1"
    [line] = told(caplog)
    assert "refuses" in line


async def test_a_wrong_password_is_told_without_it(caplog: pytest.LogCaptureFixture) -> None:
    """By health and by the log."""
    with own(ThrowawayRedis("--requirepass", "right")) as server:
        url = server.url.replace("redis://", "redis://:hunter2@")
        async with RedisCache.from_url(url) as cache:
            with pytest.raises(TaskFlowError, match=r"(?i)password") as caught:
                await cache.ping()
        async with RedisCache.from_url(server.url.replace("redis://", "redis://:right@")) as cache:
            await cache.put("k", b"1", 60)
            assert await cache.get("k") == b"1"
    assert "hunter2" not in caplog.text + str(caught.value)
