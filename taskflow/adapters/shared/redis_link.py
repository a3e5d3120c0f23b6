"""One way to Redis for all that use it: a small pool that waits, short deadlines, and no call to a server that is away.

No command is ever sent twice: redis-py's own retry would double an INCR, a PUBLISH or a script whose answer was lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from taskflow.adapters.shared.redis_url import options_of, place_of
from taskflow.core.errors import TaskFlowError
from taskflow.core.outage import Outage, backoff

CALL: Final = 0.25
"""Seconds that one call may take, its wait for a connection included."""
CONNECT: Final = 0.9
"""Seconds for a connection that nobody waits for, and for a ping."""
CONNECTIONS: Final = 10
PAUSE: Final = 2.0
"""Longest pause between two looks at a server that is away."""
COMPLAINTS: Final = 60.0
"""Seconds between two lines about commands that the server refuses."""

T = TypeVar("T")
Failures: Final = (RedisError, OSError, TimeoutError)

log = logging.getLogger("taskflow")


class RedisLink:
    """Connections to one Redis. While it is away, calls return at once and somebody else looks for its return.

    Args:
        url: `redis://` or `rediss://`.
        use: what for; the log and the server's list of clients name it.

    Raises:
        ValueError: the URL cannot be used.
    """

    def __init__(self, url: str, use: str) -> None:
        found = options_of(url)
        self.place = place_of(found)
        self._class: type[Connection] = found.pop("connection_class", Connection)
        self._options: dict[str, Any] = {
            **found,
            "client_name": f"taskflow-{use}",
            "driver_info": None,  # one question less at each connect, which old servers do not know
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": CONNECT,
            "socket_timeout": CONNECT,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        self._outage = Outage(f"Redis at {self.place} ({use})")
        self._complained: float | None = None
        self._looking: asyncio.Task[None] | None = None
        self._open = False

    async def __aenter__(self) -> Self:
        self._pool = BlockingConnectionPool(
            max_connections=CONNECTIONS, timeout=CALL, connection_class=self._class, **self._options
        )
        self.client: Redis = Redis(connection_pool=self._pool)
        # Who waits for a turn proves nothing about the server, and must not count as a failure of it.
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._open = True
        try:
            await self._ping()
        except Failures as error:
            self.lost(error)
        except BaseException:
            await self._drop(idle_only=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            self._looking = None
        await self._drop(idle_only=False)

    def away(self) -> bool:
        """Whether the server is known not to answer."""
        return self._looking is not None or not self._open

    async def call(self, work: Callable[[Redis], Awaitable[T]]) -> T | None:
        """What the server answers, or `None` where it is away, slow, or refuses. Never raises for an outage.

        Args:
            work: sends one command, or a few.
        """
        if self.away():
            return None
        sent, cancels = False, cancellations()
        answer = None
        try:
            async with asyncio.timeout(CALL), self._turns:
                if not self.away():
                    sent = True
                    answer = await work(self.client)
        except ResponseError as error:
            await self._refused(error)
        except Failures as error:
            if sent:
                self.lost(error)
        await heed(cancels)
        return answer

    async def ping(self) -> None:
        """Ask for a sign of life, whatever is known.

        Raises:
            TaskFlowError: there is none within a second; says why.
        """
        try:
            await self._ping()
        except Failures as error:
            self.lost(error)
            raise TaskFlowError(f"Redis at {self.place} does not answer: {reason_of(error)}") from None

    def connection(self, **options: Any) -> Connection:
        """One more connection, outside the pool, not open yet."""
        return self._class(**{**self._options, **options})

    def lost(self, error: BaseException) -> None:
        """Note that the server does not answer: no more calls until it does."""
        if not self.away():
            self._outage.lost(error)
            self._looking = asyncio.create_task(self._look())

    def complain(self, error: BaseException) -> None:
        """Tell, once in a while, that the server refuses something that another try will not mend."""
        now = time.monotonic()
        if self._complained is None or now - self._complained > COMPLAINTS:
            self._complained = now
            log.warning("%s refuses: %s", self._outage.thing, reason_of(error))

    async def back(self) -> None:
        """Return when the server is not known to be away."""
        while self._looking is not None:
            await asyncio.wait([self._looking])

    async def _refused(self, error: ResponseError) -> None:
        self.complain(error)
        if isinstance(error, ReadOnlyError):
            # This one was the master once: a new connection may find the one that is.
            await self._drop(idle_only=True)

    async def _look(self) -> None:
        await self._drop(idle_only=True)
        failures = 0
        while True:
            failures += 1
            await asyncio.sleep(backoff(failures, cap=PAUSE))
            try:
                await self._ping()
            except Exception as error:
                self._outage.lost(error)
            else:
                self._looking = None
                self._outage.back()
                return

    async def _ping(self) -> None:
        async with asyncio.timeout(CONNECT):
            await self.client.ping()

    async def _drop(self, *, idle_only: bool) -> None:
        try:
            async with asyncio.timeout(CONNECT):
                await self._pool.disconnect(inuse_connections=not idle_only)
        except Failures:
            log.debug("a connection to Redis did not end well", exc_info=True)


def cancellations() -> int:
    """How often this task was cancelled so far."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


async def heed(before: int) -> None:
    """Be cancelled, if that was asked since there were `before` cancellations: redis-py sends with `asyncio.wait_for`,
    which on Python 3.11 may swallow one."""
    if cancellations() > before:
        await asyncio.sleep(0)
        raise asyncio.CancelledError


def reason_of(error: BaseException) -> str:
    """An error in a few words."""
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
