"""What every event service must do. Subclass `EventsSuite` in a test and give it an `events` fixture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskflow.core.ids import new_id
from taskflow.ports.events import Events

WITHIN = 5.0


async def following(messages: AsyncIterator[tuple[str, bytes]], count: int) -> list[tuple[str, bytes]]:
    """The next messages, within a deadline."""
    async with asyncio.timeout(WITHIN):
        return [await anext(messages) for _ in range(count)]


class EventsSuite:
    """The contract of `taskflow.ports.events.Events`."""

    @pytest.fixture
    def events(self) -> Any:
        """The service under test, opened."""
        raise NotImplementedError("override this fixture, and yield an opened event service")

    @pytest.fixture
    def topic(self) -> str:
        """A topic that nobody else uses."""
        return f"test:{new_id()}"

    async def test_a_subscriber_hears_from_the_moment_it_has_entered(self, events: Events, topic: str) -> None:
        """Nothing older, everything newer, in order."""
        await events.publish(topic, b"too early")
        async with events.subscribe(topic) as messages:
            for body in (b"1", b"", b"\0\xff"):
                await events.publish(topic, body)
            assert await following(messages, 3) == [(topic, b"1"), (topic, b""), (topic, b"\0\xff")]

    async def test_many_at_once_are_heard_in_their_order(self, events: Events, topic: str) -> None:
        """By whoever listens to some of them; none is no message."""
        async with events.subscribe(topic) as messages:
            await events.publish_all([])
            sent = [(topic if n % 2 else f"{topic}:b", b"%d\0\xff" % n) for n in range(1_200)]
            await events.publish_all(sent[:1_000])
            await events.publish_all(sent[1_000:])
            mine = [(name, body) for name, body in sent if name == topic]
            assert await following(messages, len(mine)) == mine

    async def test_it_hears_its_topics_only(self, events: Events, topic: str) -> None:
        """One or several."""
        async with events.subscribe(topic, f"{topic}:b") as messages:
            for name in (f"{topic}:other", topic, f"{topic}:b"):
                await events.publish(name, b"x")
            assert await following(messages, 2) == [(topic, b"x"), (f"{topic}:b", b"x")]

    async def test_every_subscriber_hears(self, events: Events, topic: str) -> None:
        """Each has a copy."""
        async with events.subscribe(topic) as one, events.subscribe(topic) as other:
            await events.publish(topic, b"x")
            assert await following(one, 1) == await following(other, 1) == [(topic, b"x")]

    async def test_who_waits_is_woken(self, events: Events, topic: str) -> None:
        """A message that comes while somebody waits for it."""
        async with events.subscribe(topic) as messages:
            waiting = asyncio.create_task(following(messages, 1))
            await asyncio.wait([waiting], timeout=0.01)
            await events.publish(topic, b"x")
            assert await waiting == [(topic, b"x")]

    async def test_one_that_left_disturbs_nobody(self, events: Events, topic: str) -> None:
        """Nor does a publication that nobody hears."""
        async with events.subscribe(topic) as stays:
            async with events.subscribe(topic):
                pass
            await events.publish(topic, b"x")
            assert await following(stays, 1) == [(topic, b"x")]
        await events.publish(topic, b"y")

    async def test_a_slow_subscriber_holds_nobody_up(self, events: Events, topic: str) -> None:
        """It may lose messages; those that publish do not wait for it, and the others hear."""
        async with events.subscribe(topic), events.subscribe(f"{topic}:b") as other:
            async with asyncio.timeout(WITHIN):
                for _ in range(3_000):
                    await events.publish(topic, b"x" * 100)
            await events.publish(f"{topic}:b", b"y")
            assert await following(other, 1) == [(f"{topic}:b", b"y")]

    async def test_it_answers(self, events: Events) -> None:
        """A ping raises nothing."""
        await events.ping()
