"""One lane's consumer: a small machine that subscribes, and subscribes again whatever happens to its channel."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from aiormq.abc import AbstractChannel, DeliveredMessage

from taskflow.adapters.rabbitmq import window
from taskflow.adapters.rabbitmq.acks import Acks, RabbitDelivery
from taskflow.adapters.rabbitmq.calls import RPC, BrokerLost, ForeignQueue, call, log, pause, text_of
from taskflow.adapters.rabbitmq.link import Link, channel_of
from taskflow.adapters.rabbitmq.topology import TRY_AGAIN, Topology
from taskflow.adapters.rabbitmq.wire import Unreadable, decode
from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import LaneKey
from taskflow.ports.broker import Delivery

LINGER: Final = 15.0
"""Seconds that a lane which was dropped keeps its channel for acks of what is buffered: a ticket is held for 10."""
IDLE: Final = 5.0
"""Seconds without a delivery after which nothing is known about a lane's traffic any more."""
TOLD: Final = 3
"""Failures in a row after which a queue is said to be ill."""
RESIZE: Final = 0.25
"""Seconds between two openings of a window."""


class LaneConsumer:
    """Consumes one lane on channels of its own, one after another.

    Args:
        key: the lane.
        land: takes deliveries.
        target: the lane's part of the prefetch, in tickets.
        stir: called at the first delivery after a quiet time.
    """

    def __init__(
        self,
        key: LaneKey,
        link: Link,
        topology: Topology,
        land: Callable[[Delivery], None],
        target: Callable[[LaneKey], int],
        stir: Callable[[], None],
    ) -> None:
        self.key = key
        self._link = link
        self._topology = topology
        self._land = land
        self._target = target
        self._stir = stir
        self._bell = asyncio.Event()
        self._silenced = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._acks: Acks | None = None
        self._tag = ""
        self._size = 0
        self._start = 0
        self._boundary = 0
        self._per_message = 1.0
        self.subscribed = 0.0
        self._broken = ""
        self._again = False
        self._leave_at: float | None = None
        self.live = False
        self.last = 0.0

    @property
    def unacked(self) -> int:
        """Messages out."""
        return self._acks.unacked if self._acks else 0

    @property
    def full(self) -> bool:
        """Whether the broker sends no more before an ack."""
        return self._acks is None or self.unacked - self._acks.until(self._boundary) >= self._size

    @property
    def resting(self) -> bool:
        """Whether it has no consumer, on purpose: it holds more than its part."""
        return self._size == 0

    @property
    def active(self) -> bool:
        """Whether the lane is in use."""
        return self.unacked > 0 or time.monotonic() - self.last < IDLE

    @property
    def stirs(self) -> bool:
        """Whether its window may have to change without a delivery."""
        return self.active or self.resting or self._size > self._start or self._per_message > 1.0

    @property
    def claimed(self) -> int:
        """Tickets that the lane holds or may get at any moment, as far as the size of messages is known."""
        if self._acks is None:
            return 0
        coming = self._size - (self.unacked - self._acks.until(self._boundary))
        return self._acks.tickets + round(max(0, coming) * self._per_message)

    def start(self) -> None:
        """Consume in the background."""
        self._task = asyncio.create_task(self._run(), name=self._topology.queue(self.key))

    async def stop(self, linger: float = LINGER) -> None:
        """Consume no more; returns once the broker sends nothing more, at most an RPC's time later.

        Args:
            linger: seconds that what was delivered may still be acked.
        """
        self._leave_at = time.monotonic() + linger
        self._bell.set()
        if self._task is None or self._acks is None:
            await self.end()
            return
        waiting = asyncio.create_task(self._silenced.wait())
        await asyncio.wait({waiting, self._task}, timeout=RPC, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def end(self, seconds: float = 0.0) -> None:
        """Wait for the end of a stopped lane, and enforce it after so many seconds."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=RPC)

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return self._task is None or self._task.done()

    def renew(self, why: str) -> None:
        """Subscribe again, on a new channel."""
        self._broken = why
        self._bell.set()

    def subscribe_again(self) -> None:
        """A new consumer in place of the present one, on the same channel and with the same window."""
        self._again = True
        self._bell.set()

    def deaf(self, seconds: float) -> bool:
        """Whether there was room for so long, and nothing came."""
        return not self.full and time.monotonic() - max(self.last, self.subscribed) >= seconds

    def look(self) -> None:
        """Consider the window."""
        if self.live and self.stirs and self._wanted() is not None:
            self._bell.set()

    async def _run(self) -> None:
        failures = 0
        while self._leave_at is None:
            started = time.monotonic()
            try:
                await self._serve()
                wait = 0.0
            except ForeignQueue:
                wait = TRY_AGAIN
            except BrokerUnavailable as error:
                failures = 1 if time.monotonic() - started > IDLE else failures + 1
                wait = pause(failures)
                # The link tells its own outages; this is about one queue.
                told = failures == TOLD and self._link.connection is not None
                log.log(
                    logging.WARNING if told else logging.DEBUG,
                    "%s cannot be consumed, its jobs are drawn from the table: %s",
                    self._topology.queue(self.key),
                    error,
                )
            except Exception as error:
                failures += 1
                wait = pause(failures)
                log.exception("%s cannot be consumed: %s", self._topology.queue(self.key), text_of(error))
            await asyncio.sleep(wait)

    async def _serve(self) -> None:
        connection = await self._link.connected()
        async with channel_of(self._link, connection) as channel:
            await self._topology.declare_lane(channel, self.key)
            acks = Acks(channel, self._settled, lambda: self.renew("acks were not taken"))
            channel.on_consumer_cancel_callbacks.add(self._cancelled)
            channel.closing.add_done_callback(lambda _: self._bell.set())
            self._broken, self._tag, self._acks = "", "", acks
            try:
                self._start = window.first(self._target(self.key))
                await self._subscribe(channel, acks, self._start)
                self.live = True
                await self._tend(channel, acks)
            finally:
                self.live, self._acks = False, None
                await acks.flush(RPC)

    async def _tend(self, channel: AbstractChannel, acks: Acks) -> None:
        while self._leave_at is None:
            await self._bell.wait()
            self._bell.clear()
            if channel.is_closed:
                raise BrokerLost("the channel was closed")
            if self._broken:
                raise BrokerLost(self._broken)
            size = self._wanted()
            if size is None and self._again:
                size = self._size
            if size is not None and self._leave_at is None:
                self._again = False
                await self._unsubscribe(channel)
                await self._subscribe(channel, acks, size)
        self.live = False
        await self._unsubscribe(channel)
        self._silenced.set()
        while acks.unacked and not channel.is_closed and (left := self._leave_at - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._bell.wait()
            self._bell.clear()

    async def _subscribe(self, channel: AbstractChannel, acks: Acks, size: int) -> None:
        self._boundary, self._size, self.subscribed = acks.newest, size, time.monotonic()
        if size == 0:
            return
        await call(channel.basic_qos(prefetch_count=size, timeout=RPC))

        async def delivered(message: DeliveredMessage) -> None:
            self._delivered(acks, message)

        # Tags count up: the broker takes a dead channel's messages back in the order of its consumers' tags.
        self._tag = f"taskflow-{time.monotonic_ns():020d}"
        queue = self._topology.queue(self.key)
        await call(channel.basic_consume(queue, delivered, consumer_tag=self._tag, timeout=RPC))

    async def _unsubscribe(self, channel: AbstractChannel) -> None:
        if self._tag:
            await call(channel.basic_cancel(self._tag, timeout=RPC))
            self._tag = ""

    def _delivered(self, acks: Acks, message: DeliveredMessage) -> None:
        """Buffer it. Nothing runs here: the driver cancels its callbacks when the link breaks."""
        tag = message.delivery_tag
        if tag is None:
            return
        now = time.monotonic()
        if now - self.last >= IDLE:
            self._stir()
        self.last = now
        if self._leave_at is not None:
            acks.refuse(tag, requeue=True)
            return
        try:
            tickets = decode(message.body, self.key)
        except Unreadable as error:
            log.warning("a message of %s cannot be read (%s): to the dead queue", self._topology.queue(self.key), error)
            acks.refuse(tag, requeue=False)
            return
        acks.delivered(tag, len(tickets))
        larger = len(tickets) > self._per_message
        self._per_message = max(len(tickets), 0.95 * self._per_message)
        try:
            self._land(RabbitDelivery(tickets, acks, tag))
        except Exception:
            # A message that nobody can buffer would come back for ever; its rows are found by the draw.
            log.exception("tickets were not taken and are forgotten")
            acks.ack(tag)
        # Asked only where the answer may have changed: this is the hot path.
        if (larger or self.full) and self._wanted() is not None:
            self._bell.set()

    def _wanted(self) -> int | None:
        """The size of the window that should replace the present one."""
        tickets = self._target(self.key)
        start = window.first(tickets)
        if not self.active:
            self._per_message, self._start = 1.0, start
            return start if self._size > start or self.resting else None
        target = max(1, int(tickets / self._per_message))
        size = window.changed(self._size, self.unacked, target, full=self.full)
        # A window that must shrink takes room from others; one that may grow can wait.
        if size is not None and size > self._size > start and time.monotonic() - self.subscribed < RESIZE:
            return None
        return size

    def _settled(self) -> None:
        if self._leave_at is not None or self.resting:
            self._bell.set()

    async def _cancelled(self, _frame: object) -> None:
        # The driver's reader waits for this: a call in here would wait for itself.
        self.renew("the broker cancelled the consumer")
