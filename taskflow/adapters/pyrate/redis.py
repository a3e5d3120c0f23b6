"""Token buckets in Redis, shared by all processes; in this process while Redis is away."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Any, Self

from taskflow.adapters.pyrate.bucket import RedisBuckets
from taskflow.adapters.pyrate.memory import MemoryLimiter
from taskflow.adapters.shared.redis_link import RedisLink
from taskflow.ports.limiter import Rate, Verdict


class RedisLimiter:
    """A bucket per key and rate, under `{namespace}:limit:{digest}`. Each ends when it would be full again.

    Args:
        link: not open yet.
        namespace: prefix of every key.
        spare: judges while Redis does not, so that nobody is refused, nor let through, for its sake alone.
    """

    def __init__(self, link: RedisLink, namespace: str, spare: MemoryLimiter | None = None) -> None:
        self._link = link
        self._prefix = f"{namespace}:limit:"
        self._spare = spare or MemoryLimiter()

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "taskflow", **_: Any) -> Self:
        """The limiter of a `redis://` or `rediss://` URL.

        Raises:
            ValueError: the URL cannot be used.
        """
        return cls(RedisLink(url, "limiter"), namespace)

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        self._buckets = RedisBuckets(self._link.client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.__aexit__(kind, error, trace)

    async def check(self, key: str, rate: Rate, cost: int = 1) -> Verdict:
        """Take `cost` units if they are there; more than the burst never are, and retry_after is then a full refill."""
        name = self._name(key, rate)
        verdict = await self._link.call(lambda _: self._buckets.take(name, rate, cost))
        return verdict or await self._spare.check(key, rate, cost)

    async def ping(self) -> None:
        """Raise `TaskFlowError` if Redis does not answer."""
        await self._link.ping()

    def _name(self, key: str, rate: Rate) -> str:
        # A key may be long, and may tell who it is.
        whole = f"{key}\n{rate.limit}\n{rate.period}\n{rate.burst}"
        return self._prefix + hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()
