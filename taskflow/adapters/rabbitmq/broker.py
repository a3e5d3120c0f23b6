"""The broker port on RabbitMQ: two connections, so that an alarm which blocks publishing never stops consuming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from taskflow.adapters.rabbitmq.address import check
from taskflow.adapters.rabbitmq.calls import log, pause
from taskflow.adapters.rabbitmq.consuming import RabbitConsumption
from taskflow.adapters.rabbitmq.link import Link, channel_of
from taskflow.adapters.rabbitmq.probe import Probe
from taskflow.adapters.rabbitmq.publishing import Publishing
from taskflow.adapters.rabbitmq.topology import TRY_AGAIN, Topology
from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import LaneKey, Ticket
from taskflow.ports.broker import Delivery, LaneStanding

GREET: Final = 2.0
"""Seconds that opening waits for the links; without them it goes on, and they come up in the background."""


class RabbitBroker:
    """Tickets over RabbitMQ. A broker that is down stops nothing: its links come back, and the table holds every job.

    Args:
        url: an `amqp:` or `amqps:` URL.
        namespace: prefix of the queues' names.
    """

    def __init__(self, url: str, namespace: str = "taskflow") -> None:
        self._topology = Topology(namespace)
        self._publish_link = Link(url, "publish")
        self._consume_link = Link(url, "consume")
        self._publishing = Publishing(self._publish_link, self._topology)
        self._probes = Probe(self._publish_link), Probe(self._consume_link)
        self._dead: asyncio.Task[None] | None = None

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "taskflow", **_: Any) -> Self:
        """The broker of an `amqp://user:password@host:5672/vhost` URL; `amqps:` takes cafile, certfile, keyfile and so on.

        Raises:
            ValueError: the URL is wrong; the message says what to write.
        """
        check(url)
        return cls(url, namespace)

    async def __aenter__(self) -> Self:
        for link in (self._publish_link, self._consume_link):
            link.start()
        self._dead = asyncio.create_task(self._declare_dead())
        try:
            async with asyncio.timeout(GREET):
                await self._publish_link.connected()
                await self._consume_link.connected()
        except TimeoutError:
            log.warning("RabbitMQ is not there yet: jobs are drawn from the table until it is")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._dead is not None:
            self._dead.cancel()
        await asyncio.gather(self._publish_link.stop(), self._consume_link.stop())

    async def publish(self, tickets: Sequence[Ticket], *, share: int = 1) -> None:
        """Publish with confirms, within 5 s. Tickets of a queue that is not TaskFlow's are dropped: their rows are drawn."""
        if tickets:
            await self._publishing.publish(tickets, share)

    @asynccontextmanager
    async def consume(
        self, lanes: Iterable[LaneKey], prefetch: int, land: Callable[[Delivery], None]
    ) -> AsyncIterator[RabbitConsumption]:
        """Deliver by calling `land` on the loop; while the broker is away, nothing comes."""
        consumption = RabbitConsumption(self._consume_link, self._topology, self._probes[1], prefetch, land)
        consumption.start()
        try:
            await consumption.follow(lanes)
            yield consumption
        finally:
            await consumption.close()

    async def depth(self, lane: LaneKey) -> int:
        """Messages ready in a lane; 0 where its queue does not exist."""
        standing = await self._probes[1].queue(self._topology.queue(lane))
        return standing.ready if standing else 0

    async def standing(self, lane: LaneKey) -> LaneStanding | None:
        """How a lane's queue stands; `None` where it does not exist."""
        return await self._probes[1].queue(self._topology.queue(lane))

    async def dead(self) -> int:
        """Messages in the dead queue."""
        standing = await self._probes[1].queue(self._topology.dead)
        return standing.ready if standing else 0

    async def ping(self) -> None:
        """Prove that both connections answer and that the broker takes messages."""
        self._publishing.ping()
        await asyncio.gather(*(probe.ping() for probe in self._probes))

    async def _declare_dead(self) -> None:
        """Each new connection may mean a new broker, so the dead queue is looked after now and then."""
        failures = 0
        while True:
            try:
                connection = await self._consume_link.connected()
                async with channel_of(self._consume_link, connection) as channel:
                    await self._topology.declare_dead(channel)
                failures = 0
            except BrokerUnavailable as error:
                failures += 1
                log.debug("the dead queue was not declared: %s", error)
            except Exception:
                failures += 1
                log.exception("the dead queue was not declared")
            await asyncio.sleep(pause(failures, TRY_AGAIN) if failures else TRY_AGAIN)
