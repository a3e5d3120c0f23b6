"""Token buckets in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskflow.adapters.pyrate import MemoryLimiter
from taskflow.ports.limiter import Rate, RateLimiter
from taskflow.testing.limiter import SLOW, LimiterSuite

RATE = Rate(limit=10, period=1.0, burst=20)


class TestMemoryLimiter(LimiterSuite):
    """The contract."""

    @pytest.fixture
    async def limiter(self) -> AsyncIterator[RateLimiter]:
        """An opened one."""
        async with MemoryLimiter.from_url("memory://") as opened:
            yield opened


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
