"""Token buckets in this process, by pyrate-limiter."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from pyrate_limiter import InMemoryStateStore, TokenBucket
from pyrate_limiter import Rate as PyRate

from taskflow.ports.limiter import Rate, Verdict

KEYS: Final = 50_000
"""Buckets kept; the least recently used goes first. A bucket that is forgotten is a full one."""


@dataclass(frozen=True, slots=True)
class _Bucket:
    rates: list[PyRate]
    store: InMemoryStateStore


class MemoryLimiter:
    """A bucket per key and rate, judged on a monotonic clock.

    Args:
        keys: most buckets that are kept.
        clock: seconds that never go back.
    """

    def __init__(self, keys: int = KEYS, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, Rate], _Bucket] = OrderedDict()
        self._algorithm = TokenBucket()

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """The limiter of `memory://`."""
        return cls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._buckets.clear()

    async def check(self, key: str, rate: Rate, cost: int = 1) -> Verdict:
        """Take `cost` units if they are there; more than the burst never are, and retry_after is then a full refill."""
        bucket = self._bucket(key, rate)
        now = int(self._clock() * 1_000)
        decision = bucket.store.check(self._algorithm, bucket.rates, now, cost)  # type: ignore[no-untyped-call]
        state = bucket.store.read(self._algorithm, bucket.rates)  # type: ignore[no-untyped-call]
        retry_after = 0.0
        if not decision.allowed:
            retry_after = (decision.retry_after_ms or rate.burst * rate.period * 1_000 / rate.limit) / 1_000
        return Verdict(
            allowed=decision.allowed,
            remaining=max(0, rate.burst - self._algorithm.consumed(bucket.rates, state, now)),
            # The state is the instant, in microseconds, at which the bucket is full again.
            reset=max(0.0, int(state[0]) / 1_000_000 - now / 1_000),
            retry_after=retry_after,
        )

    async def ping(self) -> None:
        """Always answers."""

    def _bucket(self, key: str, rate: Rate) -> _Bucket:
        bucket = self._buckets.get((key, rate))
        if bucket is None:
            rates = [PyRate(rate.limit, round(rate.period * 1_000), burst=rate.burst)]
            bucket = self._buckets[key, rate] = _Bucket(rates, InMemoryStateStore())
            if len(self._buckets) > self._keys:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end((key, rate))
        return bucket
