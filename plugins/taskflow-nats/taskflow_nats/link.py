"""A link is one connection that comes back: a supervisor opens it, waits for its end, and opens the next one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from taskflow.core.errors import BrokerUnavailable
from taskflow.core.outage import Outage
from taskflow_nats.address import Address

CALL: Final = 5.0
"""Seconds that one call may take."""
CLOSE: Final = 2.0
EXAMINE: Final = 2.0
GREET: Final = 2.0
"""Seconds that opening waits for the connection; without it, it comes up in the background."""
LOOK: Final = 1.0
"""Seconds between two looks whether a connection is closed."""
PENDING_BYTES: Final = 64 << 20
PENDING: Final = 100_000
"""Messages that may wait for their confirms: more than ever do, for the driver takes a cancelled wait for a place for a full house."""
PING: Final = 5
"""Seconds between two pings; two that are not answered end the connection."""

T = TypeVar("T")
log = logging.getLogger("taskflow.broker")


class NatsUnencrypted(BrokerUnavailable):
    """The server does not speak TLS, and was to."""


class _Client(Client):
    """The driver asks for TLS only where the server does, and else would tell it the password in the clear."""

    def _connect_command(self) -> bytes:
        writer = getattr(self._transport, "_io_writer", None)
        if "tls" in self.options and (writer is None or writer.get_extra_info("ssl_object") is None):
            raise NatsUnencrypted("the server does not ask for TLS, and the URL does: nothing was said to it")
        command: bytes = super()._connect_command()
        return command

    def abort(self) -> None:
        """Close the socket of a connection that could not be closed in its way."""
        if not self.is_closed and self._transport:
            self._transport.close()  # type: ignore[no-untyped-call]


class Session:
    """One connection, from its opening to its end.

    No call of the driver that waits for a round trip is ever cancelled: the answer that comes late would end its reading of the
    connection. One that takes too long ends the session.

    Attributes:
        client: the connection.
        js: JetStream on it.
        prefix: of JetStream's own subjects.
        gone: set once the connection is of no use any more.
    """

    def __init__(self, domain: str | None) -> None:
        self.client = _Client()
        self.prefix = f"$JS.{domain}.API" if domain else "$JS.API"
        self.js: JetStreamContext = self.client.jetstream(
            prefix=self.prefix, timeout=CALL, publish_async_max_pending=PENDING
        )
        self.gone = asyncio.Event()
        self.why = "closed"
        self._examining: asyncio.Task[bool] | None = None

    async def open(self, **options: Any) -> None:
        """Connect. It does not reconnect: the next one is another session."""
        await self.client.connect(
            **options,
            allow_reconnect=False,
            connect_timeout=int(CALL),
            ping_interval=PING,
            max_outstanding_pings=2,
            pending_size=PENDING_BYTES,
            flush_timeout=CALL,
            closed_cb=self._closed,
            error_cb=self._erred,
        )

    async def over(self) -> None:
        """Return when it is gone. The driver does not tell of every end."""
        while not (self.gone.is_set() or self.client.is_closed):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self.gone.wait()
        self.gone.set()

    async def close(self) -> None:
        """Leave."""
        self.gone.set()
        await self._wait(self.client.close(), CLOSE)
        self.client.abort()

    async def ask(self, question: Awaitable[T]) -> T:
        """The answer to a question.

        Raises:
            NotFoundError: NATS has no such thing.
            BrokerUnavailable: it does not answer.
        """
        try:
            async with asyncio.timeout(CALL):
                return await question
        except NotFoundError:
            raise
        except Exception as error:
            raise BrokerUnavailable(f"NATS does not answer: {reason_of(error)}") from error

    async def drain(self, subscription: Subscription) -> None:
        """Unsubscribe, and return when everything that was on its way has come."""
        await self._wait(subscription.drain(), CALL)  # type: ignore[no-untyped-call]

    async def settle(self) -> None:
        """Return when everything that was sent has arrived."""
        await self._wait(self.client.rtt(timeout=int(CALL)), CALL)

    def suspect(self) -> None:
        """Examine the connection in the background: a call on it was not answered."""
        if self._examining is None or self._examining.done():
            self._examining = asyncio.create_task(self._wait(self.client.rtt(timeout=int(EXAMINE)), EXAMINE))

    async def _wait(self, work: Coroutine[Any, Any, Any], seconds: float) -> bool:
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=seconds + 1)
        if done and not task.cancelled() and task.exception() is None:
            return True
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.why = "it does not answer"
        self.gone.set()
        return False

    async def _closed(self) -> None:
        self.gone.set()

    async def _erred(self, error: Exception) -> None:
        self.why = reason_of(error)


class Link:
    """Keeps one session after another.

    Args:
        address: where.
        prepare: called with each new session before it counts.
    """

    def __init__(self, address: Address, prepare: Callable[[Session], Awaitable[None]]) -> None:
        self._address = address
        self._prepare = prepare
        self._outage = Outage("NATS")
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._why = "not connected yet"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="nats")
        try:
            await self.within(GREET)
        except BrokerUnavailable:
            log.warning("NATS is not there yet: jobs are drawn from the table until it is")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=2 * CLOSE)

    @property
    def session(self) -> Session | None:
        """The session, where there is one now."""
        return self._session

    async def connected(self) -> Session:
        """The session, once there is one; the caller has the deadline."""
        while self._session is None:
            await self._up.wait()
        return self._session

    async def within(self, seconds: float) -> Session:
        """The session, once there is one.

        Raises:
            BrokerUnavailable: there was none in that time; says why.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self.connected()
        except TimeoutError:
            raise BrokerUnavailable(f"NATS cannot be reached: {self._why}") from None

    async def _run(self) -> None:
        turn = 0
        while True:
            try:
                await self._once(turn)
                pause = self._outage.lost(BrokerUnavailable(self._why))
            except Exception as error:
                self._why = reason_of(error)
                pause = self._outage.lost(error)
            turn += 1
            await asyncio.sleep(pause)

    async def _once(self, turn: int) -> None:
        session = Session(self._address.domain)
        try:
            options = self._address.credentials()
            first = turn % len(options["servers"])
            options["servers"] = options["servers"][first:] + options["servers"][:first]
            async with asyncio.timeout(2 * CALL):
                await session.open(name="taskflow", dont_randomize=True, **options)
                await self._prepare(session)
            self._session = session
            self._up.set()
            self._outage.back()
            await session.over()
            self._why = session.why
        finally:
            self._session = None
            self._up.clear()
            await session.close()


def reason_of(error: BaseException) -> str:
    """An error in a few words."""
    return str(error) or type(error).__name__
