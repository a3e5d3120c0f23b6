"""Events by Redis' pub/sub. However many subscribe here, one connection listens for all of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from redis.asyncio import Redis

from taskflow.adapters.redis.listener import Listener
from taskflow.adapters.shared.mailbox import Mailbox
from taskflow.adapters.shared.redis_link import RedisLink
from taskflow.core.errors import TaskFlowError

AT_ONCE: Final = 500
# A pipeline would cost the client as much for each message as a call of its own.
PUBLISH_ALL: Final = "for i = 1, #ARGV, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end"
ENTERING: Final = 0.5
"""Seconds that a new subscriber waits for Redis to confirm; it listens in either case."""


class RedisEvents:
    """Topics are the channels `{namespace}:events:{topic}`. What is published while Redis is away is lost.

    Args:
        link: not open yet.
        namespace: prefix of every channel.
    """

    def __init__(self, link: RedisLink, namespace: str) -> None:
        self._link = link
        self._prefix = f"{namespace}:events:"
        self._topics: defaultdict[str, set[Mailbox]] = defaultdict(set)
        self._listener = Listener(link, self._wanted, self._heard)

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "taskflow", **_: Any) -> Self:
        """The events of a `redis://` or `rediss://` URL.

        Raises:
            ValueError: the URL cannot be used.
        """
        return cls(RedisLink(url, "events"), namespace)

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        self._listening = asyncio.create_task(self._listener.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.cancel()
        await asyncio.wait([self._listening])
        await self._link.__aexit__(kind, error, trace)

    async def publish(self, topic: str, body: bytes) -> None:
        """Tell whoever listens now, on any host."""
        await self._link.call(lambda redis: redis.publish(self._prefix + topic, body))

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Tell whoever listens now of each, in one command for many."""
        for start in range(0, len(messages), AT_ONCE):
            parts: list[str | bytes] = []
            for topic, body in messages[start : start + AT_ONCE]:
                parts += (self._prefix + topic, body)
            await self._link.call(partial(_publish_all, parts))

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Listen from here on; over outages too, with a gap where they were."""
        mailbox = Mailbox()
        for topic in topics:
            self._topics[topic].add(mailbox)
        try:
            if not self._link.away():
                try:
                    async with asyncio.timeout(ENTERING):
                        await self._listener.confirmed({self._prefix + topic for topic in topics})
                except TimeoutError:
                    pass  # whoever waits for an event also polls
            yield mailbox
        finally:
            for topic in topics:
                self._topics[topic].discard(mailbox)
                if not self._topics[topic]:
                    del self._topics[topic]
            self._listener.changed()

    async def ping(self) -> None:
        """Raise `TaskFlowError` if Redis does not answer, or does not let this process listen."""
        await self._link.ping()
        try:
            async with asyncio.timeout(ENTERING):
                await self._listener.confirmed(set())
        except TimeoutError:
            raise TaskFlowError(f"Redis at {self._link.place} answers, but takes no subscriptions") from None

    def _wanted(self) -> set[str]:
        return {self._prefix + topic for topic in self._topics}

    def _heard(self, channel: str, body: bytes) -> None:
        topic = channel.removeprefix(self._prefix)
        for mailbox in self._topics.get(topic, ()):
            mailbox.tell(topic, body)


async def _publish_all(parts: Sequence[str | bytes], redis: Redis) -> None:
    await redis.eval(PUBLISH_ALL, 0, *parts)
