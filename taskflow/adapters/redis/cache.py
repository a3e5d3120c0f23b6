"""The cache in Redis."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from taskflow.adapters.shared.redis_link import RedisLink


class RedisCache:
    """Values under `{namespace}:cache:{key}`; the server drops what is past its time, or what it has no room for.

    Args:
        link: not open yet.
        namespace: prefix of every key.
    """

    def __init__(self, link: RedisLink, namespace: str) -> None:
        self._link = link
        self._prefix = f"{namespace}:cache:"

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "taskflow", **_: Any) -> Self:
        """The cache of a `redis://` or `rediss://` URL.

        Raises:
            ValueError: the URL cannot be used.
        """
        return cls(RedisLink(url, "cache"), namespace)

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.__aexit__(kind, error, trace)

    async def get(self, key: str) -> bytes | None:
        """The value, or `None`, also where Redis does not say."""
        found = await self._link.call(lambda redis: redis.get(self._prefix + key))
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value, if Redis takes it."""
        if ttl <= 0:
            await self.delete(key)
            return
        await self._link.call(lambda redis: redis.set(self._prefix + key, value, px=max(1, round(ttl * 1_000))))

    async def delete(self, *keys: str) -> None:
        """Forget the keys. Those of a Redis that is away it keeps, until their time."""
        if keys:
            await self._link.call(lambda redis: redis.unlink(*(self._prefix + key for key in keys)))

    async def ping(self) -> None:
        """Raise `TaskFlowError` if Redis does not answer."""
        await self._link.ping()
