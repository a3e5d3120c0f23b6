"""The line between the parent of a crew and a member, as the parent sees it: words, one a line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from typing import Final

from taskflow.wiring.member import ASKED, HURRY, READY, STARTED, Order

ANSWER: Final = 2.0
"""Seconds in which a member says how its roles are."""


class Channel:
    """A member's end of it is `taskflow.wiring.member.Seat`.

    Attributes:
        started: set once the member works.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: list[asyncio.Future[dict[str, str | None]]] = []
        self.started = asyncio.Event()
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    async def of(cls, end: socket.socket) -> Channel:
        """One over a socket, which it closes at its end."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def order(self, order: Order) -> None:
        """Say what to be."""
        self._writer.write(order.packed())

    def hurry(self) -> None:
        """Say that the end must come now."""
        self._writer.write(HURRY)

    async def ready(self) -> Mapping[str, str | None] | None:
        """Why each of the member's roles does not work; `None` where it does not say so in time."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._writer.write(ASKED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER):
                return dict(await waiting)
        return None

    def close(self) -> None:
        """No more is said."""
        self._hearing.cancel()
        self._writer.close()

    async def _hear(self) -> None:
        with contextlib.suppress(OSError):
            while line := await self._reader.readline():
                if line == STARTED:
                    self.started.set()
                elif line.startswith(READY):
                    self._answered(json.loads(line.removeprefix(READY)))

    def _answered(self, roles: dict[str, str | None]) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(roles)
