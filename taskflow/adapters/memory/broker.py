"""A broker in this process: a queue of tickets per lane, served by weight."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from taskflow.core.job import Lane, LaneKey, Ticket
from taskflow.ports.broker import Delivery

LANE_CAP: Final = 100_000
"""Messages a lane keeps; the tickets of more are forgotten, and the draw finds their rows."""
WEIGHTS: Final = {Lane.HIGH: 8, Lane.NORMAL: 3, Lane.LOW: 1}

log = logging.getLogger("taskflow.broker")
Lanes = defaultdict[LaneKey, deque[tuple[Ticket, ...]]]
"""Messages by lane."""


class MemoryBroker:
    """Lanes of a queue are served 8:3:1, queues in turn. Tickets that were not acked return when their consumer ends."""

    def __init__(self) -> None:
        self._lanes: Lanes = defaultdict(deque)
        self._consumers: list[_Consumption] = []
        self.forgotten = 0

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """The broker of `memory://`."""
        return cls()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lanes.clear()

    async def publish(self, tickets: Sequence[Ticket], *, share: int = 1) -> None:
        """Append to the lanes; a full lane forgets."""
        by_lane: defaultdict[LaneKey, list[Ticket]] = defaultdict(list)
        for ticket in tickets:
            by_lane[ticket.lane].append(ticket)
        for key, mine in by_lane.items():
            lane = self._lanes[key]
            for start in range(0, len(mine), share):
                message = tuple(mine[start : start + share])
                if len(lane) < LANE_CAP:
                    lane.append(message)
                else:
                    self.forgotten += len(message)
        for consumer in self._consumers:
            consumer.wake()

    @asynccontextmanager
    async def consume(
        self, lanes: Iterable[LaneKey], prefetch: int, land: Callable[[Delivery], None]
    ) -> AsyncIterator[_Consumption]:
        """Deliver by calling `land` on the loop."""
        consumer = _Consumption(self._lanes, prefetch, land)
        self._consumers.append(consumer)
        await consumer.follow(lanes)
        try:
            yield consumer
        finally:
            self._consumers.remove(consumer)
            consumer.close()
            for other in self._consumers:
                other.wake()

    async def depth(self, lane: LaneKey) -> int:
        """Messages that wait in a lane."""
        return len(self._lanes.get(lane, ()))

    async def ping(self) -> None:
        """Always answers."""


class _Message:
    def __init__(self, tickets: tuple[Ticket, ...], acked: Callable[[_Message], None]) -> None:
        self.tickets = tickets
        self._acked = acked

    async def ack(self) -> None:
        self._acked(self)


class _Consumption:
    def __init__(self, lanes: Lanes, prefetch: int, land: Callable[[Delivery], None]) -> None:
        self._lanes = lanes
        self._prefetch = prefetch
        self._land = land
        self._turns: deque[LaneKey] = deque()
        self._unacked: dict[int, _Message] = {}
        self._held = 0
        self._loop = asyncio.get_running_loop()
        self._woken = False
        self.live = True

    async def follow(self, lanes: Iterable[LaneKey]) -> None:
        """Serve exactly these lanes, each as often in a round as its weight."""
        wanted = list(lanes)
        rounds = range(max(WEIGHTS.values()))
        self._turns = deque(key for turn in rounds for key in wanted if _has_turn(key.lane, turn))
        self.wake()

    def wake(self) -> None:
        if self.live and not self._woken:
            self._woken = True
            self._loop.call_soon(self._deliver)

    def close(self) -> None:
        self.live = False
        for message in reversed(self._unacked.values()):
            self._lanes[message.tickets[0].lane].appendleft(message.tickets)
        self._unacked.clear()

    def _deliver(self) -> None:
        self._woken = False
        idle = 0
        while self.live and idle < len(self._turns) and self._held < self._prefetch:
            lane = self._lanes[self._turns[0]]
            if lane and self._held and self._held + len(lane[0]) > self._prefetch:
                # Its turn stays: smaller messages of other lanes must not keep this one waiting for ever.
                return
            self._turns.rotate(-1)
            if not lane:
                idle += 1
                continue
            idle = 0
            self._hand_over(_Message(lane.popleft(), self._acked))

    def _hand_over(self, message: _Message) -> None:
        self._unacked[id(message)] = message
        self._held += len(message.tickets)
        try:
            self._land(message)
        except Exception:
            # A ticket that nobody can buffer would come back for ever; its row is found by the draw.
            log.exception("a ticket was not taken and is forgotten")
            self._acked(message)

    def _acked(self, message: _Message) -> None:
        if self._unacked.pop(id(message), None):
            self._held -= len(message.tickets)
            self.wake()


def _has_turn(lane: Lane, turn: int) -> bool:
    """Spreads a lane's turns over a round instead of bunching them."""
    most, weight = max(WEIGHTS.values()), WEIGHTS[lane]
    return (turn + 1) * weight // most > turn * weight // most
