"""The broker port on NATS JetStream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from taskflow.core.job import LaneKey, Ticket
from taskflow.ports.broker import Delivery, LaneStanding
from taskflow_nats.address import Address
from taskflow_nats.consuming import NatsConsumption
from taskflow_nats.link import CALL, Link
from taskflow_nats.names import Names
from taskflow_nats.publishing import Publishing
from taskflow_nats.streams import Streams


class NatsBroker:
    """Tickets over JetStream. A NATS that is down stops nothing: its link comes back, and the table holds every job.

    Args:
        address: where it is.
        namespace: part of the names of streams and subjects.
    """

    PORT_VERSION: Final = 1

    def __init__(self, address: Address, namespace: str = "taskflow") -> None:
        self._streams = Streams(Names(namespace), address.replicas)
        self._link = Link(address, self._streams.declare)
        self._publishing = Publishing(self._link, self._streams)

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "taskflow", **_: Any) -> Self:
        """The broker of `nats://user:password@host:4222`; options: replicas, domain, tls, cafile, certfile, keyfile.

        Raises:
            ValueError: the URL is wrong; the message says what to write.
        """
        return cls(Address.of(url), namespace)

    async def __aenter__(self) -> Self:
        await self._link.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.__aexit__(kind, error, trace)

    async def publish(self, tickets: Sequence[Ticket], *, share: int = 1) -> None:
        """Publish with confirms, within 5 s."""
        if tickets:
            await self._publishing.publish(tickets, share)

    @asynccontextmanager
    async def consume(
        self, lanes: Iterable[LaneKey], prefetch: int, land: Callable[[Delivery], None]
    ) -> AsyncIterator[NatsConsumption]:
        """Deliver by calling `land` on the loop; while NATS is away, nothing comes."""
        consumption = NatsConsumption(self._link, self._streams, prefetch, land)
        consumption.start()
        try:
            await consumption.follow(lanes)
            yield consumption
        finally:
            await consumption.close()

    async def depth(self, lane: LaneKey) -> int:
        """Messages ready in a lane; 0 where nobody has used it."""
        standing = await self.standing(lane)
        return standing.ready if standing else 0

    async def standing(self, lane: LaneKey) -> LaneStanding | None:
        """How a lane stands: what waits, and which workers ask for it; `None` where nobody has used it."""
        return await self._streams.standing(await self._link.within(CALL), lane)

    async def dead(self) -> int:
        """Messages that could not be read."""
        return await self._streams.count(await self._link.within(CALL), self._streams.names.dead)

    async def ping(self) -> None:
        """Prove that JetStream answers."""
        await self._streams.count(await self._link.within(CALL), self._streams.names.stream)
