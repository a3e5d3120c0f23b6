"""Token buckets, in this process and in Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from taskflow.adapters.pyrate import MemoryLimiter
from taskflow.adapters.pyrate.redis import RedisLimiter
from taskflow.ports.limiter import Rate, RateLimiter
from taskflow.testing.limiter import SLOW, LimiterSuite
from tests.support import until

RATE = Rate(limit=10, period=1.0, burst=20)


@pytest.mark.adapter("memory")
class TestMemoryLimiter(LimiterSuite):
    """The contract."""

    @pytest.fixture
    async def limiter(self) -> AsyncIterator[RateLimiter]:
        """An opened one."""
        async with MemoryLimiter.from_url("memory://") as opened:
            yield opened


@pytest.mark.adapter("redis")
class TestRedisLimiter(LimiterSuite):
    """The contract."""

    @pytest.fixture
    async def limiter(self, redis_url: str, redis_namespace: str) -> AsyncIterator[RateLimiter]:
        """An opened one."""
        async with RedisLimiter.from_url(redis_url, namespace=redis_namespace) as opened:
            yield opened


@pytest.mark.adapter("redis")
async def test_processes_share_a_bucket(redis_url: str, redis_namespace: str) -> None:
    """However many ask at once, the rate holds for all of them together."""
    rate = Rate(limit=1, period=3_600.0, burst=40)
    async with (
        RedisLimiter.from_url(redis_url, namespace=redis_namespace) as one,
        RedisLimiter.from_url(redis_url, namespace=redis_namespace) as other,
    ):
        verdicts = await asyncio.gather(*(limiter.check("k", rate) for limiter in (one, other) for _ in range(50)))
    assert sum(verdict.allowed for verdict in verdicts) == 40
    assert sorted(verdict.remaining for verdict in verdicts if verdict.allowed) == list(range(40))


@pytest.mark.adapter("redis")
async def test_every_bucket_in_redis_ends(redis_url: str, redis_namespace: str) -> None:
    """And its key does not tell whose it is."""
    async with (
        RedisLimiter.from_url(redis_url, namespace=redis_namespace) as limiter,
        Redis.from_url(redis_url) as redis,
    ):
        await limiter.check("key:of-somebody", RATE, 20)
        [name] = [key async for key in redis.scan_iter(f"{redis_namespace}:*", count=1_000)]
        assert name.startswith(f"{redis_namespace}:limit:".encode())
        assert b"somebody" not in name
        assert 2_000 <= await redis.pttl(name) + 200 <= 4_200


@pytest.mark.adapter("redis")
async def test_a_clock_that_ran_ahead_locks_nobody_out(redis_url: str, redis_namespace: str) -> None:
    """A new master may be behind the old one: a bucket is empty at most, and refills from now."""
    async with (
        RedisLimiter.from_url(redis_url, namespace=redis_namespace) as limiter,
        Redis.from_url(redis_url) as redis,
    ):
        await limiter.check("k", RATE)
        [name] = [key async for key in redis.scan_iter(f"{redis_namespace}:*", count=1_000)]
        await redis.set(name, int(time.time() + 86_400) * 1_000_000, px=60_000)
        refused = await limiter.check("k", RATE)
        assert not refused.allowed
        assert (refused.remaining, refused.reset) == (0, 2.0)
        assert refused.retry_after == pytest.approx(0.1)

        async def allowed() -> bool:
            return (await limiter.check("k", RATE)).allowed

        passed: bool = await until(allowed, 2)
        assert passed


@pytest.mark.adapter("redis")
@pytest.mark.parametrize("spoilt", ["nan", "inf", "-inf", "-nan", "text", "1e999", ""])
async def test_a_bucket_that_was_spoilt_is_full_or_empty_and_counts_again(
    redis_url: str, redis_namespace: str, spoilt: str
) -> None:
    """It lets nobody through for ever, and locks nobody out."""
    async with (
        RedisLimiter.from_url(redis_url, namespace=redis_namespace) as limiter,
        Redis.from_url(redis_url) as redis,
    ):
        await limiter.check("k", SLOW)
        [name] = [key async for key in redis.scan_iter(f"{redis_namespace}:*", count=1_000)]
        await redis.set(name, spoilt, px=60_000)
        verdicts = [await limiter.check("k", SLOW) for _ in range(SLOW.burst + 1)]
        assert not verdicts[-1].allowed
        assert all(0 <= verdict.remaining <= SLOW.burst for verdict in verdicts)
        full_again = float(await redis.get(name) or 0) / 1e6 - time.time()
        assert full_again == pytest.approx(SLOW.burst * SLOW.period / SLOW.limit, abs=5)


async def test_buckets_in_memory_are_bounded_though_the_library_keeps_each() -> None:
    """pyrate-limiter forgets no key by itself."""
    async with MemoryLimiter(keys=100) as limiter:
        for n in range(1_000):
            await limiter.check(f"k{n}", SLOW)
        assert len(limiter._buckets) == 100


async def test_a_rate_holds_over_time() -> None:
    """The burst, and then exactly the rate."""
    now = 1_000.0
    async with MemoryLimiter(clock=lambda: now) as limiter:
        allowed = 0
        for step in range(5_000):
            now = 1_000.0 + step / 1_000
            allowed += (await limiter.check("k", RATE)).allowed
    assert allowed == 20 + 49


async def test_the_promise_of_retry_after_is_kept() -> None:
    """Refused just before, allowed at that time."""
    now = 0.0
    async with MemoryLimiter(clock=lambda: now) as limiter:
        await limiter.check("k", RATE, 20)
        wait = (await limiter.check("k", RATE, 5)).retry_after
        now = wait - 0.002
        assert not (await limiter.check("k", RATE, 5)).allowed
        now = wait
        assert (await limiter.check("k", RATE, 5)).allowed


async def test_a_bucket_is_full_after_its_reset() -> None:
    """Not before."""
    now = 50.0
    async with MemoryLimiter(clock=lambda: now) as limiter:
        reset = (await limiter.check("k", RATE, 7)).reset
        assert reset == pytest.approx(0.7)
        now += reset
        assert (await limiter.check("k", RATE, 0)).remaining == 20


async def test_the_least_recently_used_key_is_forgotten() -> None:
    """Memory is bounded; a forgotten bucket is a full one."""
    async with MemoryLimiter(keys=2) as limiter:
        for key in ("a", "b", "a", "c"):
            await limiter.check(key, SLOW)
        assert (await limiter.check("a", SLOW)).remaining == 2
        assert (await limiter.check("b", SLOW)).remaining == 4


@pytest.mark.adapter("redis")
async def test_what_is_asked_together_is_answered_as_one_after_the_other(redis_url: str, redis_namespace: str) -> None:
    """Whoever asks for what, and however much; one who leaves takes no answer from the others."""
    rates = [Rate(limit=1, period=3_600.0, burst=burst) for burst in (3, 10)]
    asks = [(f"k{n % 3}", rates[n % 2], n % 5) for n in range(60)] + [("k0", rates[0], 99)]
    async with (
        RedisLimiter.from_url(redis_url, namespace=redis_namespace) as together,
        RedisLimiter.from_url(redis_url, namespace=f"{redis_namespace}2") as alone,
    ):
        leaves = asyncio.ensure_future(together.check("leaves", RATE))
        answers = asyncio.gather(*(together.check(*ask) for ask in asks))
        await asyncio.wait([leaves], timeout=0)
        leaves.cancel()
        verdicts = await answers
        for ask, verdict in zip(asks, verdicts, strict=True):
            expected = await alone.check(*ask)
            assert (verdict.allowed, verdict.remaining) == (expected.allowed, expected.remaining), ask
            assert verdict.retry_after == pytest.approx(expected.retry_after, abs=2)


@pytest.mark.adapter("redis")
async def test_a_bucket_that_is_none_hurts_nobody(redis_url: str, redis_namespace: str) -> None:
    """It is begun anew; who shares the call with it is judged by his own."""
    rate = Rate(limit=1, period=3_600.0, burst=3)
    async with (
        RedisLimiter.from_url(redis_url, namespace=redis_namespace) as limiter,
        Redis.from_url(redis_url) as redis,
    ):
        await limiter.check("good", rate)
        await limiter.check("bad", rate)
        keys = [key async for key in redis.scan_iter(f"{redis_namespace}:limit:*")]
        assert len(keys) == 2
        for spoilt in (b"no number", None):
            for key in keys:
                if spoilt is None:
                    await redis.delete(key)
                    await redis.rpush(key, "a list")
                else:
                    await redis.set(key, spoilt)
            verdicts = await asyncio.gather(*(limiter.check(name, rate) for name in ("good", "bad")))
            assert [(verdict.allowed, verdict.remaining) for verdict in verdicts] == [(True, 2)] * 2


@pytest.mark.adapter("redis")
async def test_who_has_left_is_charged_for_nothing(redis_url: str, redis_namespace: str) -> None:
    """He waited for his turn, and hung up."""
    rate = Rate(limit=1, period=3_600.0, burst=10)
    async with RedisLimiter.from_url(redis_url, namespace=redis_namespace) as limiter:
        first = asyncio.ensure_future(limiter.check("k", rate))
        await asyncio.wait([first], timeout=0)
        leaving = [asyncio.ensure_future(limiter.check("k", rate)) for _ in range(5)]
        await asyncio.wait(leaving, timeout=0)
        for each in leaving:
            each.cancel()
        await first
        assert (await limiter.check("k", rate)).remaining == 8
