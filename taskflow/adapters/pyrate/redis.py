"""Token buckets in Redis, shared by all processes; in this process while Redis is away."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

from taskflow.adapters.pyrate.bucket import Ask, RedisBuckets
from taskflow.adapters.pyrate.memory import MemoryLimiter
from taskflow.adapters.shared.redis_link import RedisLink
from taskflow.ports.limiter import Rate, Verdict

AT_ONCE: Final = 200
"""Questions in a call: Redis does nothing else meanwhile."""


class RedisLimiter:
    """A bucket per key and rate, under `{namespace}:limit:{digest}`. Each ends when it would be full again.

    What is asked while a call is in flight shares the next one: a call for each would cost more than the request that it is
    about.

    Args:
        link: not open yet.
        namespace: prefix of every key.
        spare: judges while Redis does not, so that nobody is refused, nor let through, for its sake alone.
    """

    def __init__(self, link: RedisLink, namespace: str, spare: MemoryLimiter | None = None) -> None:
        self._link = link
        self._prefix = f"{namespace}:limit:"
        self._spare = spare or MemoryLimiter()
        self._name = lru_cache(maxsize=10_000)(self._name_of)
        self._waiting: deque[tuple[str, Ask, asyncio.Future[Verdict]]] = deque()
        self._flight: asyncio.Task[None] | None = None

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
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])
            self._flight = None
            for *_, verdict in self._waiting:
                verdict.cancel()
            self._waiting.clear()
        await self._link.__aexit__(kind, error, trace)

    async def check(self, key: str, rate: Rate, cost: int = 1) -> Verdict:
        """Take `cost` units if they are there; more than the burst never are, and retry_after is then a full refill."""
        loop = asyncio.get_running_loop()
        verdict: asyncio.Future[Verdict] = loop.create_future()
        self._waiting.append((key, Ask(self._name(key, rate), rate, cost), verdict))
        if self._flight is None:
            self._flight = loop.create_task(self._fly())
        return await verdict

    async def _fly(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                # Who has left asks for nothing, and is charged for nothing.
                if asked := [each for each in batch if not each[2].done()]:
                    await self._answer(asked)
        finally:
            self._flight = None

    async def _answer(self, batch: Sequence[tuple[str, Ask, asyncio.Future[Verdict]]]) -> None:
        try:
            asked = [ask for _, ask, _ in batch]
            verdicts = await self._link.call(lambda _: self._buckets.take(asked))
            for place, (key, ask, verdict) in enumerate(batch):
                found = verdicts[place] if verdicts else await self._spare.check(key, ask.rate, ask.cost)
                if not verdict.done():
                    verdict.set_result(found)
        except BaseException as error:
            for *_, verdict in batch:
                if isinstance(error, asyncio.CancelledError):
                    verdict.cancel()
                elif not verdict.done():
                    verdict.set_exception(error)
            if not isinstance(error, Exception):
                raise

    async def ping(self) -> None:
        """Raise `TaskFlowError` if Redis does not answer."""
        await self._link.ping()

    def _name_of(self, key: str, rate: Rate) -> str:
        # A key may be long, and may tell who it is.
        whole = f"{key}\n{rate.limit}\n{rate.period}\n{rate.burst}"
        return self._prefix + hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()
