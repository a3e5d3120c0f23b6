"""The broker: a fast, lossy way to say "this job may run". Tickets may be lost or doubled; the table is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from taskflow.core.job import LaneKey, Ticket


class Delivery(Protocol):
    """One or more tickets that share a message."""

    @property
    def tickets(self) -> Sequence[Ticket]:
        """The tickets in it, all of one lane."""
        ...

    async def ack(self) -> None:
        """Tell the broker to forget the message. Never raises: on a dead link there is nothing left to forget."""
        ...


class Consumption(Protocol):
    """A running subscription; ends with its context."""

    async def follow(self, lanes: Iterable[LaneKey]) -> None:
        """Consume exactly these lanes from now on (paused ones drop out)."""
        ...

    @property
    def live(self) -> bool:
        """Whether the broker has this consumer registered now."""
        ...


class Broker(Protocol):
    """A message broker. Opened and closed as an async context manager by the wiring."""

    async def publish(self, tickets: Sequence[Ticket], *, share: int = 1) -> None:
        """Publish tickets, FIFO per lane; returns when the broker has confirmed them.

        Args:
            tickets: of any lanes.
            share: most tickets of one lane that may travel in one message.

        Raises:
            BrokerUnavailable: not confirmed within the deadline; the tickets may or may not arrive.
        """
        ...

    def consume(
        self, lanes: Iterable[LaneKey], prefetch: int, land: Callable[[Delivery], None]
    ) -> AbstractAsyncContextManager[Consumption]:
        """Deliver messages of `lanes` by calling `land`, which only buffers.

        Args:
            lanes: what to consume; declared if they do not exist.
            prefetch: most unacked tickets over all lanes together. A message lands whole, so one that holds more may
                land alone; a broker that pushes may pass it by two messages a lane until it has seen their size.
            land: called on the event loop, never blocks.
        """
        ...

    async def depth(self, lane: LaneKey) -> int:
        """Messages ready in the lane; each holds one ticket or more. 0 where there is no such lane yet.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        ...

    async def ping(self) -> None:
        """Prove that the broker answers.

        Raises:
            BrokerUnavailable: it does not.
        """
        ...


class LaneStanding(NamedTuple):
    """How a lane stands at the broker."""

    ready: int
    consumers: int


@runtime_checkable
class Inspectable(Protocol):
    """What a broker that stands by itself may have beside `Broker`. Only who checks a deployment asks for it."""

    async def standing(self, lane: LaneKey) -> LaneStanding | None:
        """Messages ready, and who consumes; `None` where there is no such lane.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        ...

    async def dead(self) -> int:
        """Messages that were given up on or could not be read.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        ...
