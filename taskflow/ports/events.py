"""Events: hints that something happened, published after commit. Whoever waits polls every 2 s anyway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Events(Protocol):
    """Publish and subscribe by topic. Messages may be lost; slow subscribers lose the oldest.

    Topics in use: `job:{id}` (state changed; body the state), `logs:{id}` (body: NDJSON lines), `cancel` (body
    `{id} {epoch}`), `queues` (a queue was paused, resumed or created), `tasks` (the catalogue changed).
    """

    async def publish(self, topic: str, body: bytes) -> None:
        """Tell subscribers. Never raises for an outage."""
        ...

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Tell subscribers of many (topic, body) pairs, in their order, at the price of one. Never raises for an outage."""
        ...

    def subscribe(self, *topics: str) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, bytes]]]:
        """(topic, body) pairs from the moment the context is entered."""
        ...

    async def ping(self) -> None:
        """Raise `TaskFlowError` if the service does not answer."""
        ...
