"""The one connection that listens: it keeps the server's list of subscriptions like the one that is wanted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Connection
from redis.exceptions import ResponseError

from taskflow.adapters.shared.redis_link import CONNECT, Failures, RedisLink, heed
from taskflow.core.outage import backoff

QUIET: Final = 5.0
"""Seconds of silence after which the server is asked for a sign of life; as many again without one, and it is lost."""
AT_ONCE: Final = 500
"""Channels in one command."""


class Listener:
    """Connects, subscribes, hears, and begins anew after each loss.

    Args:
        link: knows whether the server answers.
        wanted: the channels that somebody listens to now.
        heard: takes the channel and the body of each message.
    """

    def __init__(self, link: RedisLink, wanted: Callable[[], set[str]], heard: Callable[[str, bytes], None]) -> None:
        self._link = link
        self._wanted = wanted
        self._heard = heard
        self._asked: set[str] = set()
        self._open: Counter[str] = Counter()
        self._known = asyncio.Condition()
        self._connected = False
        self._change = asyncio.Event()

    def changed(self) -> None:
        """What is wanted is another now."""
        self._change.set()

    async def confirmed(self, channels: set[str]) -> None:
        """Return when the server has confirmed all of them; with none, when there is a connection."""
        self.changed()
        async with self._known:
            await self._known.wait_for(lambda: self._connected and all(map(self._is_confirmed, channels)))

    def _is_confirmed(self, channel: str) -> bool:
        # An older confirmation of a channel that was left meanwhile is not the one that counts.
        return channel in self._asked and not self._open[channel]

    async def run(self) -> None:
        """For ever."""
        failures = 0
        while True:
            await self._link.back()
            began = time.monotonic()
            try:
                await self._listen()
            except ResponseError as error:
                self._link.complain(error)
            except Failures as error:
                self._link.lost(error)
            except ExceptionGroup as group:
                self._judge(group)
            failures = 1 if time.monotonic() - began > QUIET else failures + 1
            await asyncio.sleep(backoff(failures))

    def _judge(self, group: ExceptionGroup[Exception]) -> None:
        for error in group.exceptions:
            if isinstance(error, ResponseError):
                self._link.complain(error)
            else:
                self._link.lost(error)

    async def _listen(self) -> None:
        # RESP2: all that comes on such a connection is a list that begins with its kind.
        connection = self._link.connection(protocol=2, client_name="taskflow-listener")
        try:
            async with asyncio.timeout(CONNECT):
                await connection.connect()  # type: ignore[no-untyped-call]
            async with asyncio.TaskGroup() as both:
                both.create_task(self._hear(connection))
                both.create_task(self._ask(connection))
        finally:
            self._connected = False
            self._asked.clear()
            self._open.clear()
            await connection.disconnect(nowait=True)

    async def _hear(self, connection: Connection) -> None:
        while True:
            reply: Any = await connection.read_response(timeout=2 * QUIET, disconnect_on_error=False)
            if reply is None:
                raise TimeoutError(f"it has said nothing for {2 * QUIET:g} s")
            kind, *rest = reply
            if kind == b"message":
                self._heard(rest[0].decode(), rest[1])
            elif kind == b"subscribe":
                channel = rest[0].decode()
                self._open[channel] -= 1
                if not self._open[channel]:
                    del self._open[channel]
                async with self._known:
                    self._known.notify_all()

    async def _ask(self, connection: Connection) -> None:
        async with self._known:
            self._connected = True
            self._known.notify_all()
        asked = time.monotonic()
        while True:
            self._change.clear()
            wanted = self._wanted()
            new, old = wanted - self._asked, self._asked - wanted
            self._asked = wanted
            self._open.update(new)
            for verb, channels in (("UNSUBSCRIBE", sorted(old)), ("SUBSCRIBE", sorted(new))):
                for start in range(0, len(channels), AT_ONCE):
                    await connection.send_command(verb, *channels[start : start + AT_ONCE], check_health=False)
            # A change that asks for nothing, as each look at its health is one, is no sign of life.
            if new or old:
                asked = time.monotonic()
            elif time.monotonic() - asked >= QUIET:
                asked = time.monotonic()
                await connection.send_command("PING", check_health=False)
            await heed(0)
            try:
                async with asyncio.timeout(max(0.0, asked + QUIET - time.monotonic())):
                    await self._change.wait()
            except TimeoutError:
                pass
