"""The promoter: asleep until something falls due, and told of what falls due sooner than it thought."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from taskflow.core.errors import StoreUnavailable
from taskflow.flow.loops import keep
from taskflow.flow.publish import Publisher
from taskflow.flow.upkeep import Promoter
from taskflow.ports.store import Promoted, Upkeep
from tests.support import until


class Due:
    """A store in which nothing is ever due; remembers when it was asked."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.during: Callable[[], None] = lambda: None
        self.broken = False

    async def promote(self, limit: int) -> Promoted:
        self.asked.append(time.monotonic())
        self.during()
        if self.broken:
            raise StoreUnavailable("away")
        return Promoted((), None)


class Tickets:
    """Takes tickets and forgets them."""

    def offer(self, tickets: object) -> None:
        """Take them."""


@pytest.fixture
async def running() -> AsyncIterator[tuple[Due, Promoter]]:
    """A promoter at work, which has looked once and sleeps."""
    due = Due()
    promoter = Promoter(cast("Upkeep", due), cast("Publisher", Tickets()))
    loop = asyncio.create_task(keep("promote", promoter.once, promoter.bell))
    await until(lambda: due.asked)
    yield due, promoter
    loop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loop


async def test_it_looks_when_something_is_expected_and_no_earlier(running: tuple[Due, Promoter]) -> None:
    """What is expected later than the next look changes nothing; the soonest of many counts."""
    due, promoter = running
    begun = time.monotonic()
    for seconds in (50.0, 0.3, 0.2, 0.9):
        promoter.expect(seconds)
    await until(lambda: len(due.asked) == 2)
    assert 0.2 <= due.asked[1] - begun < 1.5


async def test_what_is_expected_while_it_looks_is_not_lost(running: tuple[Due, Promoter]) -> None:
    """The answer that is on its way does not know of it; neither does an outage."""
    due, promoter = running
    for broken in (False, True):
        due.broken, asked = broken, len(due.asked)
        due.during = lambda: promoter.expect(0.1)
        promoter.expect(0.0)
        begun = time.monotonic()
        await until(lambda asked=asked: len(due.asked) >= asked + 2)  # type: ignore[misc]
        assert due.asked[asked + 1] - begun < 1.5
