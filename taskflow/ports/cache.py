"""The cache: documents of jobs that can no longer change. Losing it costs speed only."""

from __future__ import annotations

from typing import Protocol


class Cache(Protocol):
    """Bytes by key. No method raises for an outage: a cache that cannot answer has nothing."""

    async def get(self, key: str) -> bytes | None:
        """The value, or `None`."""
        ...

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value for at most `ttl` seconds."""
        ...

    async def delete(self, *keys: str) -> None:
        """Forget the keys."""
        ...

    async def ping(self) -> None:
        """Raise `TaskFlowError` if the cache does not answer."""
        ...
