"""A cache in this process: least recently used goes first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

BYTES: Final = 64 << 20
OVERHEAD: Final = 200
"""Bytes that an entry costs beside its key and value, about."""


class MemoryCache:
    """Keeps at most `capacity` bytes of keys and values."""

    def __init__(self, capacity: int = BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._values: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """The cache of `memory://`."""
        return cls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._values.clear()
        self._bytes = 0

    async def get(self, key: str) -> bytes | None:
        """The value, unless it is past its time."""
        kept = self._values.get(key)
        if kept is None:
            return None
        if kept[0] <= self._clock():
            self._drop(key)
            return None
        self._values.move_to_end(key)
        return kept[1]

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value; one larger than the cache is not kept."""
        self._drop(key)
        if ttl <= 0 or _size(key, value) > self._capacity:
            return
        self._values[key] = (self._clock() + ttl, value)
        self._bytes += _size(key, value)
        while self._bytes > self._capacity:
            self._drop(next(iter(self._values)))

    async def delete(self, *keys: str) -> None:
        """Forget the keys."""
        for key in keys:
            self._drop(key)

    async def ping(self) -> None:
        """Always answers."""

    def _drop(self, key: str) -> None:
        kept = self._values.pop(key, None)
        if kept:
            self._bytes -= _size(key, kept[1])


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + OVERHEAD
