"""Events in this process. A slow subscriber loses the oldest."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

WAITING: Final = 1_000
WAITING_BYTES: Final = 8 << 20
"""What waits for one subscriber; beyond either, the oldest is lost."""


class MemoryEvents:
    """A queue per subscriber, bounded."""

    def __init__(self) -> None:
        self._topics: defaultdict[str, set[_Subscriber]] = defaultdict(set)

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """The events of `memory://`."""
        return cls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._topics.clear()

    async def publish(self, topic: str, body: bytes) -> None:
        """Tell who listens now."""
        for subscriber in self._topics.get(topic, ()):
            subscriber.tell(topic, body)

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Listen from here on."""
        subscriber = _Subscriber()
        for topic in topics:
            self._topics[topic].add(subscriber)
        try:
            yield subscriber
        finally:
            for topic in topics:
                self._topics[topic].discard(subscriber)
                if not self._topics[topic]:
                    del self._topics[topic]

    async def ping(self) -> None:
        """Always answers."""


class _Subscriber:
    def __init__(self) -> None:
        self._messages: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._news = asyncio.Event()

    def tell(self, topic: str, body: bytes) -> None:
        self._messages.append((topic, body))
        self._bytes += len(body)
        while len(self._messages) > WAITING or (self._bytes > WAITING_BYTES and len(self._messages) > 1):
            self._oldest()
        self._news.set()

    def __aiter__(self) -> _Subscriber:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        while not self._messages:
            self._news.clear()
            await self._news.wait()
        return self._oldest()

    def _oldest(self) -> tuple[str, bytes]:
        oldest = self._messages.popleft()
        self._bytes -= len(oldest[1])
        return oldest
