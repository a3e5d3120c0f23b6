"""Publishing: confirms in a pipeline on one channel, every message mandatory, persistent and with an id of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from enum import Enum, auto
from itertools import groupby
from typing import Final, NamedTuple
from uuid import uuid4

from aiormq import spec
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import DeliveryError, PublishError

from taskflow.adapters.rabbitmq.calls import (
    RPC,
    BrokerLost,
    BrokerSilent,
    ForeignQueue,
    call,
    log,
    pause,
    ready,
    result_of,
    retrieved,
)
from taskflow.adapters.rabbitmq.link import Link, channel_of
from taskflow.adapters.rabbitmq.topology import Topology
from taskflow.adapters.rabbitmq.wire import encode
from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import LaneKey, Ticket

DEADLINE: Final = 5.0
"""Seconds from the call to the last confirm."""
IN_FLIGHT: Final = 200
"""Messages that wait for their confirms at once, over all callers."""


ATTEMPTS: Final = 6
MUTED: Final = 15.0
"""Seconds that a queue which confirms nothing is left out, so that it does not hold up the others."""


class Fate(Enum):
    """What the broker did with a message. A refused one (nack) is not in the queue: the queue may just be electing."""

    TAKEN = auto()
    RETURNED = auto()
    REFUSED = auto()


class Message(NamedTuple):
    """Tickets on their way."""

    lane: LaneKey
    body: bytes


class Publishing:
    """The publishing half of the broker. Its connection consumes nothing: the broker may block it at any time."""

    def __init__(self, link: Link, topology: Topology) -> None:
        self._link = link
        self._topology = topology
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._preparing = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._known: set[LaneKey] = set()
        self._muted: dict[LaneKey, float] = {}
        self._examining: asyncio.Task[None] | None = None

    async def publish(self, tickets: Sequence[Ticket], share: int) -> None:
        """Publish within the deadline; errors are the port's."""
        end = asyncio.get_running_loop().time() + DEADLINE
        messages, returns = packed(tickets, share), 0
        for attempt in range(1, ATTEMPTS + 1):
            found = await self._send_all(messages, end)
            messages = [message for message, fate in found if fate is not Fate.TAKEN]
            if not messages:
                return
            returned = {message.lane for message, fate in found if fate is Fate.RETURNED}
            # Their queues were deleted: made anew, and the messages go out once more in their order.
            self._known -= returned
            returns += bool(returned)
            if returns > 1:
                break
            if not returned:
                await asyncio.sleep(pause(attempt))
        raise BrokerUnavailable(
            f"RabbitMQ did not take {len(messages)} messages for {self._topology.queue(messages[0].lane)} and others: "
            "the queue has no leader, or is deleted again and again"
        )

    async def _send_all(self, messages: Sequence[Message], end: float) -> list[tuple[Message, Fate]]:
        """Send, and await what becomes of every message."""
        channel = await self._prepared({message.lane for message in messages}, end)
        sending: list[tuple[Message, asyncio.Task[Fate]]] = []
        try:
            for message in messages:
                if self._skipped(message.lane):
                    continue
                async with asyncio.timeout_at(end):
                    await self._slots.acquire()
                task = asyncio.create_task(self._send(channel, message, end))
                task.add_done_callback(self._sent)
                sending.append((message, task))
            if sending:
                await asyncio.wait([task for _, task in sending])
        except TimeoutError:
            raise BrokerUnavailable(f"RabbitMQ confirmed nothing within {DEADLINE:g} s") from None
        finally:
            # Cancelling a publish leaves its channel alone, unlike any other call.
            for _, task in sending:
                task.cancel()
        self._note_silence(sending)
        return [(message, result_of(task, DEADLINE)) for message, task in sending]

    def _sent(self, task: asyncio.Future[Fate]) -> None:
        self._slots.release()
        retrieved(task)

    async def _send(self, channel: AbstractChannel, message: Message, end: float) -> Fate:
        try:
            await channel.basic_publish(
                message.body,
                routing_key=self._topology.queue(message.lane),
                mandatory=True,
                # The confirm is what is waited for, not the socket; the driver's abstract class does not know it yet.
                wait=False,  # type: ignore[call-arg]
                timeout=max(0.0, end - asyncio.get_running_loop().time()),
                # The driver finds a returned message's publish by this id: one that comes twice loses a return.
                properties=spec.Basic.Properties(delivery_mode=2, message_id=uuid4().hex),
            )
        except PublishError:
            return Fate.RETURNED
        except DeliveryError:
            return Fate.REFUSED
        return Fate.TAKEN

    async def _prepared(self, lanes: set[LaneKey], end: float) -> AbstractChannel:
        """The channel, with the queues of these lanes declared on this connection."""
        left = end - asyncio.get_running_loop().time()
        connection = await self._link.within(max(0.0, left))
        self._check(connection)
        if self._channel_of(connection) is None or not lanes <= self._known:
            try:
                async with asyncio.timeout_at(end), self._preparing:
                    await self._prepare(connection, lanes)
            except TimeoutError:
                # Perhaps nobody is there any more: the first call of a connection may be the one that finds it out.
                self._link.suspect(connection)
                raise BrokerUnavailable(f"RabbitMQ did not declare the queues within {DEADLINE:g} s") from None
        channel = self._channel_of(connection)
        if channel is None:
            raise BrokerLost("the link to RabbitMQ broke")
        return channel

    async def _prepare(self, connection: AbstractConnection, lanes: set[LaneKey]) -> None:
        if connection is not self._connection:
            self._connection, self._channel = connection, None
            self._known.clear()
        if self._channel_of(connection) is None:
            try:
                self._channel = await call(connection.channel(publisher_confirms=True, timeout=RPC))
            except BrokerSilent:
                self._link.suspect(connection)
                raise
        for lane in sorted(lanes - self._known):
            if self._skipped(lane):
                continue
            # A refused declare closes its channel, so it has one of its own.
            try:
                async with channel_of(self._link, connection) as channel:
                    await self._topology.declare_lane(channel, lane)
            except ForeignQueue:
                continue
            self._known.add(lane)

    def _channel_of(self, connection: AbstractConnection) -> AbstractChannel | None:
        channel = self._channel if connection is self._connection else None
        return None if channel is None or channel.is_closed else channel

    def _check(self, connection: AbstractConnection) -> None:
        """Fail at once where the broker takes nothing: what is sent now would arrive late, and again."""
        if not ready(connection):
            raise BrokerUnavailable("RabbitMQ takes no messages now: its memory or disk alarm is on")

    def _note_silence(self, sending: Sequence[tuple[Message, asyncio.Task[Fate]]]) -> None:
        """Find out, in the background, whether the link is silent or only some queues are."""
        silent = {
            message.lane
            for message, task in sending
            if not task.cancelled() and isinstance(task.exception(), TimeoutError)
        }
        connection = self._connection
        if silent and connection is not None and ready(connection):
            self._examining = asyncio.create_task(self._examine(connection, silent))

    async def _examine(self, connection: AbstractConnection, silent: set[LaneKey]) -> None:
        if await self._link.examine(connection):
            for lane in silent:
                log.warning(
                    "%s confirms nothing (it may have no leader): its jobs are drawn from the table for %g s",
                    self._topology.queue(lane),
                    MUTED,
                )
                self._muted[lane] = time.monotonic() + MUTED

    def _skipped(self, lane: LaneKey) -> bool:
        """Whether tickets of a lane are dropped now, because they would only hold up the others."""
        if time.monotonic() < self._muted.get(lane, 0.0):
            return True
        self._muted.pop(lane, None)
        return self._topology.is_foreign(self._topology.queue(lane))

    def ping(self) -> None:
        """Raise where the broker has blocked publishing (`BrokerUnavailable`)."""
        if self._link.connection is not None:
            self._check(self._link.connection)


def packed(tickets: Sequence[Ticket], share: int) -> list[Message]:
    """Messages of at most `share` tickets of one lane; the order within a lane stays."""
    messages = []
    # A stable sort keeps each lane's order.
    for lane, group in groupby(sorted(tickets, key=lambda ticket: ticket.lane), key=lambda ticket: ticket.lane):
        mine = list(group)
        messages += [Message(lane, encode(mine[start : start + share])) for start in range(0, len(mine), max(1, share))]
    return messages
