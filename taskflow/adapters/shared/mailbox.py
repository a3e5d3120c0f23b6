"""What waits for one subscriber of events: bounded, and the oldest goes first."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Self

WAITING: Final = 1_000
WAITING_BYTES: Final = 8 << 20
"""What waits for one subscriber; beyond either, the oldest is lost."""


class Mailbox:
    """Messages in the order of their coming, for one reader."""

    def __init__(self) -> None:
        self._messages: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._news = asyncio.Event()

    def tell(self, topic: str, body: bytes) -> None:
        """Add a message; a reader who is too slow loses its oldest."""
        self._messages.append((topic, body))
        self._bytes += len(body)
        while len(self._messages) > WAITING or (self._bytes > WAITING_BYTES and len(self._messages) > 1):
            self._oldest()
        self._news.set()

    def __aiter__(self) -> Self:
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
