"""One lane's consumer: it asks for as many tickets as there is room for, and asks again whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import LaneKey, Ticket
from taskflow.core.outage import backoff
from taskflow.ports.broker import Delivery
from taskflow_nats.link import CALL, Link, Session, reason_of
from taskflow_nats.streams import Streams
from taskflow_nats.wire import TICKET_BYTES, Unreadable, decode

EXPIRES: Final = 20.0
"""Seconds after which a request that waits, and that nothing came for, is made anew."""
SLACK: Final = 5.0
"""Seconds that the word of its end may be late before the lane is thought to be deaf."""
SPARE_BYTES: Final = 28
"""By which one message may cost more than another of as many tickets: its numbers have more digits. Half of a ticket."""
TOLD: Final = 3
"""Failures in a row after which a lane is said to be ill."""
TOO_LARGE: Final = "Message Size Exceeds MaxBytes"
ENDS: Final = ("Batch Completed", "No Messages", TOO_LARGE)
"""What ends a request and is no fault, beside its time (408)."""

log = logging.getLogger("taskflow.broker")


class Request:
    """What was asked for and has not come yet.

    Args:
        number: of the request.
        tickets: that may come.
        batch: messages at most.
        size: bytes at most, as NATS counts them (subject, reply and body); `None` is any.
        waits: seconds for a first one; 0 takes what is there.
    """

    __slots__ = ("_batch", "_bytes", "_due", "messages", "number", "tickets", "waits")

    def __init__(self, number: int, tickets: int, batch: int, size: int | None, waits: float) -> None:
        self.number = number
        self.tickets = tickets
        self._batch = batch
        self._bytes = size
        self.waits = waits
        self.messages = 0
        """That came."""
        self._due = time.monotonic() + waits + SLACK

    def body(self) -> bytes:
        """As NATS reads it."""
        body: dict[str, object] = {"batch": self._batch}
        if self._bytes is not None:
            body["max_bytes"] = self._bytes
        body |= {"expires": int(self.waits * 1e9)} if self.waits else {"no_wait": True}
        return json.dumps(body).encode()

    def came(self, tickets: int, overhead: int) -> None:
        """Note a message."""
        self.messages += 1
        self.tickets = max(0, self.tickets - tickets)
        if self._bytes is not None:
            self._bytes -= overhead + TICKET_BYTES * tickets
            self.tickets = min(self.tickets, max(0, self._bytes - overhead) // TICKET_BYTES)

    @property
    def over(self) -> bool:
        """Whether nothing more can come, and NATS has no reason to say so: all that was asked for came, to the last byte."""
        return self.messages >= self._batch or self._bytes == 0

    @property
    def overdue(self) -> bool:
        """Whether the word of its end should have come."""
        return time.monotonic() > self._due


class LaneConsumer:
    """Pulls one lane, on one session after another.

    Args:
        key: the lane.
        land: takes deliveries.
        room: tickets that a lane may ask for now.
        stir: called when room may have come or gone.
    """

    def __init__(
        self,
        key: LaneKey,
        link: Link,
        streams: Streams,
        land: Callable[[Delivery], None],
        room: Callable[[LaneConsumer], int],
        stir: Callable[[], None],
    ) -> None:
        self.key = key
        self._link = link
        self._streams, self._names = streams, streams.names
        self._land = land
        self._room = room
        self._stir = stir
        self._unacked: dict[int, NatsDelivery] = {}
        self._late: list[NatsDelivery] = []
        self._session: Session | None = None
        self._inbox = ""
        self._request: Request | None = None
        self._requests = 0
        self._overhead = 200
        self._broken = asyncio.Event()
        self._why = ""
        self._closed = False
        self._heard_of = False
        self._task: asyncio.Task[None] | None = None
        self.held = 0
        """Tickets that were delivered and not acked."""
        self.size = 1
        """Tickets of the last message."""
        self.active = False
        """Whether something came for the last request, so that there may be more."""

    @property
    def asked(self) -> int:
        """Tickets that may come at any moment."""
        return self._request.tickets if self._request else 0

    @property
    def live(self) -> bool:
        """Whether it has a consumer to ask."""
        return self._session is not None and not self._session.gone.is_set()

    def start(self) -> None:
        """Consume in the background."""
        self._task = asyncio.create_task(self._run(), name=self._names.consumer(self.key))

    async def stop(self) -> None:
        """Consume no more: what comes from now on goes back to the lane. What came before can be acked."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CALL)

    async def give_back(self) -> None:
        """Give back what nobody acked, in the order in which it came."""
        unacked = [*self._unacked.values()]
        self._unacked.clear()
        await self._return(unacked)

    async def ask(self) -> None:
        """Ask for more, where there is room and no request is open."""
        session = self._session
        if session is None or self._closed or self._request is not None:
            return
        tickets = self._room(self)
        if tickets < 1 or (self.held and tickets < self.size):
            return
        self._requests += 1
        self._request = request = self._requested(tickets)
        try:
            async with asyncio.timeout(CALL):
                await session.client.publish(
                    f"{session.prefix}.CONSUMER.MSG.NEXT.{self._names.stream}.{self._names.consumer(self.key)}",
                    request.body(),
                    reply=f"{self._inbox}.{request.number}",
                )
        except Exception as error:
            self._break(reason_of(error))

    def _requested(self, tickets: int) -> Request:
        """Of a lane that has more, all that is there; of another, the next message. So room is kept only for what comes at once, and for
        one message a lane."""
        # A message lands whole: where one may hold more than there is room for, it comes alone.
        if not self.held and (tickets == 1 or tickets < self.size):
            return Request(self._requests, max(1, self.size), 1, None, EXPIRES)
        size = self._overhead + SPARE_BYTES + TICKET_BYTES * tickets
        if self.active:
            return Request(self._requests, tickets, tickets, size, 0)
        return Request(self._requests, tickets, 1, size, EXPIRES)

    def acked(self, delivery: NatsDelivery) -> bool:
        """Count a message as acked; `False` where it was already, or was given back."""
        if self._unacked.pop(id(delivery), None) is None:
            return False
        self.held -= len(delivery.tickets)
        self._stir()
        return True

    def look(self) -> None:
        """Take a lane that heard nothing for too long for a deaf one."""
        if self.live and self._request and self._request.overdue:
            self._break("its last request was not answered")

    async def send(self, subject: str, body: bytes) -> None:
        """Tell NATS what became of a message. Where there is no connection, it finds out by itself."""
        session = self._link.session
        if session is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CALL):
                    await session.client.publish(subject, body)

    async def _run(self) -> None:
        failures = 0
        while True:
            self._heard_of = False
            try:
                await self._serve(await self._link.connected())
            except Exception as error:
                self._why = reason_of(error)
                if (session := self._link.session) is not None:
                    session.suspect()
            failures = 1 if self._heard_of else failures + 1
            if failures == TOLD:
                log.warning("%s cannot be consumed: %s", self._names.subject(self.key), self._why)
            await asyncio.sleep(backoff(failures, 0.05, 3.0))

    async def _serve(self, session: Session) -> None:
        self._broken.clear()
        self._inbox = session.client.new_inbox()
        async with asyncio.timeout(CALL):
            await self._streams.declare_lane(session, self.key)
            subscription = await session.client.subscribe(f"{self._inbox}.*", cb=self._heard)
        try:
            self._request, self.active = None, False
            self._session = session
            self._stir()
            ends = {asyncio.create_task(event.wait()) for event in (session.gone, self._broken)}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
            if session.gone.is_set():
                raise BrokerUnavailable(session.why)
            raise BrokerUnavailable(self._why)
        finally:
            self._session = self._request = None
            await self._leave(session, subscription)

    async def _leave(self, session: Session, subscription: Subscription) -> None:
        """What is on its way to us still comes before the answer to a drain, and is given back."""
        if not session.gone.is_set():
            await session.drain(subscription)
        late, self._late = self._late, []
        await self._return(late)

    async def _return(self, deliveries: Sequence[NatsDelivery]) -> None:
        session = self._link.session
        if not deliveries or session is None:
            return
        with contextlib.suppress(BrokerUnavailable):
            # NATS 2.9 loses sight of what is given back, until its time is up, while requests of consumers that are gone stand
            # first in line. Being asked how the lane stands, it forgets them.
            await self._streams.standing(session, self.key)
        for delivery in deliveries:
            await self.send(delivery.reply, b"-NAK")

    def _break(self, why: str) -> None:
        self._why = why
        self._broken.set()

    async def _heard(self, message: Msg) -> None:
        self._heard_of = True
        status = (message.headers or {}).get("Status")
        if status and not message.data:
            self._told(message, status, (message.headers or {}).get("Description", ""))
            return
        delivery = NatsDelivery((), self, message.reply)
        if self._closed or self._session is None:
            self._late.append(delivery)
            return
        try:
            delivery.tickets = decode(message.data, self.key)
        except Unreadable as error:
            await self._bury(message, error)
        else:
            await self._take(delivery)
        self._count(message, max(1, len(delivery.tickets)))

    def _count(self, message: Msg, tickets: int) -> None:
        # As the server counts: what a message costs beside its tickets is learnt from the last one.
        self._overhead = len(message.subject) + len(message.reply) + len(message.data) - TICKET_BYTES * tickets
        self.size, self.active = tickets, True
        if self._request is not None:
            self._request.came(tickets, self._overhead)
            if self._request.over:
                self._request = None
        self._stir()

    def _told(self, message: Msg, status: str, description: str) -> None:
        request = self._request
        if request is None or not message.subject.endswith(f".{request.number}"):
            return
        if status != "408" and description not in ENDS:
            self._break(f"{status} {description}".strip())
            return
        self._request = None
        self.active = request.messages > 0
        if description == TOO_LARGE and not request.messages:
            self.size = request.tickets + 1
        self._stir()

    async def _take(self, delivery: NatsDelivery) -> None:
        self._unacked[id(delivery)] = delivery
        self.held += len(delivery.tickets)
        try:
            self._land(delivery)
        except Exception:
            # A ticket that nobody can buffer would come back for ever; its row is found by the draw.
            log.exception("a ticket was not taken and is forgotten")
            await delivery.ack()

    async def _bury(self, message: Msg, error: Unreadable) -> None:
        log.warning("a message of %s cannot be read (%s) and goes to %s", message.subject, error, self._names.dead)
        await self.send(self._names.dead_subject, message.data)
        await self.send(message.reply, b"+TERM")


class NatsDelivery:
    """One message."""

    __slots__ = ("_lane", "reply", "tickets")

    def __init__(self, tickets: tuple[Ticket, ...], lane: LaneConsumer, reply: str) -> None:
        self.tickets = tickets
        self._lane = lane
        self.reply = reply

    async def ack(self) -> None:
        """Settle it. A second time, it means nothing."""
        if self._lane.acked(self):
            await self._lane.send(self.reply, b"+ACK")
