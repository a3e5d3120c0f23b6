"""What every rate limiter must do. Subclass `LimiterSuite` in a test and give it a `limiter` fixture."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.core.ids import new_id
from taskflow.ports.limiter import Rate, RateLimiter
from taskflow.testing.facts import until

SLOW = Rate(limit=6, period=3_600.0, burst=5)
"""So slow that nothing comes back during a test."""
FAST = Rate(limit=20, period=1.0, burst=2)


class LimiterSuite:
    """The contract of `taskflow.ports.limiter.RateLimiter`."""

    @pytest.fixture
    def limiter(self) -> Any:
        """The limiter under test, opened."""
        raise NotImplementedError("override this fixture, and yield an opened limiter")

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody else uses."""
        return f"test:{new_id()}"

    async def test_a_burst_passes_and_no_more(self, limiter: RateLimiter, key: str) -> None:
        """And what remains is counted down to nothing."""
        verdicts = [await limiter.check(key, SLOW) for _ in range(7)]
        assert [verdict.allowed for verdict in verdicts] == [True] * 5 + [False] * 2
        assert [verdict.remaining for verdict in verdicts] == [4, 3, 2, 1, 0, 0, 0]

    async def test_seconds_are_told_exactly(self, limiter: RateLimiter, key: str) -> None:
        """One unit comes back each period / limit; the bucket is full again after as many as were taken."""
        first = await limiter.check(key, SLOW)
        assert first.reset == pytest.approx(600, abs=2)
        assert first.retry_after == 0
        await limiter.check(key, SLOW, 4)
        refused = await limiter.check(key, SLOW)
        assert not refused.allowed
        assert refused.retry_after == pytest.approx(600, abs=2)
        assert refused.reset == pytest.approx(3_000, abs=2)

    async def test_cost_is_taken_whole_or_not_at_all(self, limiter: RateLimiter, key: str) -> None:
        """A refusal takes nothing."""
        assert (await limiter.check(key, SLOW, 3)).remaining == 2
        refused = await limiter.check(key, SLOW, 3)
        assert (refused.allowed, refused.remaining) == (False, 2)
        assert (await limiter.check(key, SLOW, 2)).allowed

    async def test_more_than_the_burst_never_passes(self, limiter: RateLimiter, key: str) -> None:
        """It is refused, with a finite time, and takes nothing."""
        refused = await limiter.check(key, SLOW, 6)
        assert not refused.allowed
        assert 0 < refused.retry_after < float("inf")
        assert (await limiter.check(key, SLOW, 5)).allowed

    async def test_keys_do_not_know_each_other(self, limiter: RateLimiter, key: str) -> None:
        """Each has its bucket."""
        await limiter.check(key, SLOW, 5)
        assert not (await limiter.check(key, SLOW)).allowed
        assert (await limiter.check(f"{key}:other", SLOW)).remaining == 4

    async def test_units_come_back(self, limiter: RateLimiter, key: str) -> None:
        """After about the time that was told."""
        await limiter.check(key, FAST, 2)
        assert not (await limiter.check(key, FAST)).allowed

        async def passes() -> bool:
            return (await limiter.check(key, FAST)).allowed

        await until(passes, within=2)

    async def test_it_answers(self, limiter: RateLimiter) -> None:
        """A ping raises nothing."""
        await limiter.ping()
