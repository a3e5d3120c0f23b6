"""The rate limiter: a token bucket by key. It never sleeps; the caller answers 429."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Rate:
    """`limit` units each `period` seconds, at most `burst` at once."""

    limit: int
    period: float
    burst: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request may pass. `reset` and `retry_after` are seconds; `remaining` is units left now."""

    allowed: bool
    remaining: int
    reset: float
    retry_after: float


class RateLimiter(Protocol):
    """A token bucket by key."""

    async def check(self, key: str, rate: Rate, cost: int = 1) -> Verdict:
        """Take `cost` units if the bucket of `key` has them. Never raises for an outage: it judges in the process."""
        ...

    async def ping(self) -> None:
        """Raise `TaskFlowError` if the limiter's service does not answer."""
        ...
