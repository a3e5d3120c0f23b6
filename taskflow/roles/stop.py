"""How a process is told to end: gently once, at once the second time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Stop:
    """`asked` says finish what runs; `now` says leave it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()

    def ask(self) -> None:
        """The first call asks; the second insists."""
        (self.now if self.asked.is_set() else self.asked).set()


class Role(Protocol):
    """A long loop of its own."""

    async def run(self, stop: Stop, started: Callable[[], None]) -> None:
        """Work until asked to stop, then end cleanly. Calls `started` once it works."""
        ...

    def ready(self) -> str | None:
        """Why the role does not work, or `None` where it does."""
        ...
