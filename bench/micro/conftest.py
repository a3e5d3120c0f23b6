"""Loops and servers for benchmarks of what awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop


class House:
    """A loop that stands between calls."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()

    def run(self, work: Awaitable[Any]) -> Any:
        """To its end."""

        async def awaited() -> Any:
            return await work

        return self.loop.run_until_complete(awaited())

    def calling(self, make: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """A function that runs what another one makes."""
        return lambda *given: self.run(make(*given))


@pytest.fixture
def house() -> Iterator[House]:
    """Closed at the end."""
    made = House()
    asyncio.set_event_loop(made.loop)
    yield made
    asyncio.set_event_loop(None)
    made.loop.close()
