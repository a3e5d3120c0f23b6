"""A link is one connection that comes back: a supervisor opens it, waits for its end, and opens the next one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection

from taskflow.adapters.rabbitmq.address import named
from taskflow.adapters.rabbitmq.calls import RPC, BrokerLost, BrokerSilent, call, log, pause, text_of
from taskflow.core.errors import BrokerUnavailable

CONNECT: Final = 5.0
"""Seconds, greetings included."""
CLOSE: Final = 2.0
EXAMINE: Final = 2.0
STABLE: Final = 5.0
"""Seconds that a connection must last for the next pause to be short again."""


class Link:
    """One connection for one purpose. A closed connection of the driver cannot be opened again, so each is a new one."""

    def __init__(self, url: str, purpose: str) -> None:
        self._url = named(url, purpose)
        self._purpose = purpose
        self._up = asyncio.Event()
        self._doubted = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._examining: asyncio.Task[bool] | None = None
        self._told = False
        self.error = "not connected yet"

    def start(self) -> None:
        """Connect in the background, and again for ever."""
        self._task = asyncio.create_task(self._run(), name=f"rabbitmq {self._purpose}")

    async def stop(self) -> None:
        """Close for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=2 * CLOSE)
            self._task = None

    @property
    def connection(self) -> AbstractConnection | None:
        """The connection, where there is one now."""
        return self._connection

    async def connected(self) -> AbstractConnection:
        """The connection, once there is one; the caller has the deadline."""
        while self._connection is None:
            await self._up.wait()
        return self._connection

    async def within(self, seconds: float) -> AbstractConnection:
        """The connection, once there is one.

        Raises:
            BrokerUnavailable: there was none in that time; says why.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self.connected()
        except TimeoutError:
            raise BrokerUnavailable(f"RabbitMQ cannot be reached: {self.error}") from None

    async def examine(self, connection: AbstractConnection) -> bool:
        """Whether a connection answers at all, after a call on it was not answered; one that does not is given up.

        A call may also hang on a queue that has no leader, and then the connection is needed by all the others.
        """
        try:
            channel = await call(connection.channel(publisher_confirms=False, timeout=EXAMINE), EXAMINE)
            await call(channel.close(), CLOSE)
        except BrokerLost:
            if connection is self._connection:
                self._doubted.set()
            return False
        return True

    def suspect(self, connection: AbstractConnection) -> None:
        """Examine a connection in the background."""
        if self._examining is None or self._examining.done():
            self._examining = asyncio.create_task(self.examine(connection))

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                opened = time.monotonic()
                await self._once()
                failures = 1 if time.monotonic() - opened > STABLE else failures + 1
            except Exception as error:
                failures += 1
                self._lost(text_of(error.__cause__ or error))
            await asyncio.sleep(pause(failures))

    async def _once(self) -> None:
        connection: AbstractConnection = await call(aiormq.connect(self._url), CONNECT)
        try:
            self._connection = connection
            self._doubted.clear()
            self._up.set()
            if self._told:
                log.warning("RabbitMQ (%s) is back", self._purpose)
                self._told = False
            ending, doubted = connection.closing, asyncio.create_task(self._doubted.wait())
            # Waiting does not raise the reason of the close, as awaiting would.
            await asyncio.wait({ending, doubted}, return_when=asyncio.FIRST_COMPLETED)
            doubted.cancel()
            self._lost(_reason(ending))
        finally:
            self._connection = None
            self._up.clear()
            with contextlib.suppress(BrokerLost):
                await call(connection.close(), CLOSE)

    def _lost(self, why: str) -> None:
        self.error = why
        if not self._told:
            log.warning("RabbitMQ (%s) lost: %s", self._purpose, why)
            self._told = True


def _reason(ending: asyncio.Future[None]) -> str:
    if not ending.done():
        return "it does not answer"
    error = None if ending.cancelled() else ending.exception()
    return text_of(error) if error else "closed"


@contextlib.asynccontextmanager
async def channel_of(
    link: Link, connection: AbstractConnection, *, confirms: bool = False
) -> AsyncIterator[AbstractChannel]:
    """A channel, closed at the end. A call inside that is not answered makes the link suspect."""
    try:
        channel = await call(connection.channel(publisher_confirms=confirms, timeout=RPC))
        try:
            yield channel
        finally:
            if not channel.is_closed:
                with contextlib.suppress(BrokerLost):
                    await call(channel.close(), CLOSE)
    except BrokerSilent:
        link.suspect(connection)
        raise
