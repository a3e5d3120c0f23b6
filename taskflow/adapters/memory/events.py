"""Events in this process. A slow subscriber loses the oldest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from taskflow.adapters.shared.mailbox import Mailbox


class MemoryEvents:
    """A queue per subscriber, bounded."""

    def __init__(self) -> None:
        self._topics: defaultdict[str, set[Mailbox]] = defaultdict(set)

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

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Tell who listens now of each."""
        for topic, body in messages:
            await self.publish(topic, body)

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Listen from here on."""
        subscriber = Mailbox()
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
