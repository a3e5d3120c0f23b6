"""Consume: deliveries land in a local buffer, by the kind of slot they would use, and wait there for at most 10 s."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from math import inf
from typing import Final

from taskflow.core.job import LaneKey, RunsIn, Ticket
from taskflow.ports.broker import Delivery

HOLD: Final = 10.0
"""A ticket that finds no slot in this time is acked and forgotten: no delivery is ever old, no worker hoards."""


class Parcel:
    """A delivery whose tickets are used one by one; acked when the last one is."""

    __slots__ = ("_delivery", "_left")

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._left = len(delivery.tickets)

    async def used(self, count: int = 1) -> None:
        """So many of its tickets are done with."""
        self._left -= count
        if self._left == 0:
            await self._delivery.ack()


class Intake:
    """The buffer between the broker and the claim.

    Args:
        landed: called when something landed.
        clock: seconds, monotonic.

    Attributes:
        fronts: the newest `queued_at` among the tickets of each lane.
    """

    def __init__(self, landed: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._landed = landed
        self._clock = clock
        self._buffers: dict[RunsIn, deque[tuple[float, Ticket, Parcel]]] = {kind: deque() for kind in RunsIn}
        self._heard: dict[LaneKey, float] = {}
        self.fronts: dict[LaneKey, datetime] = {}

    def land(self, delivery: Delivery) -> None:
        """Buffer a delivery; nothing else happens in the driver's callback."""
        parcel, at = Parcel(delivery), self._clock()
        for ticket in delivery.tickets:
            self._buffers[ticket.runs_in].append((at, ticket, parcel))
            self._heard[ticket.lane] = at
            front = self.fronts.get(ticket.lane)
            if front is None or ticket.queued_at > front:
                self.fronts[ticket.lane] = ticket.queued_at
        self._landed()

    def fronts_of(self, lanes: Iterable[LaneKey]) -> dict[LaneKey, datetime]:
        """Up to when the rows of each lane have had their tickets delivered, if they have any; empty before the first.

        A lane that brought nothing for `HOLD` seconds may never bring anything, its queue being somebody else's: it is
        measured by the newest ticket of all lanes.
        """
        if not self.fronts:
            return {}
        newest, quiet = max(self.fronts.values()), self._clock() - HOLD
        return {lane: self.fronts[lane] if self._heard.get(lane, -inf) > quiet else newest for lane in lanes}

    def waiting(self, kind: RunsIn) -> int:
        """Tickets buffered for a kind of slot."""
        return len(self._buffers[kind])

    def age(self, kind: RunsIn) -> float:
        """Seconds that the oldest ticket for a kind of slot has waited; 0 where none waits."""
        buffer = self._buffers[kind]
        return self._clock() - buffer[0][0] if buffer else 0.0

    def take(self, kind: RunsIn, count: int) -> list[tuple[Ticket, Parcel]]:
        """The oldest tickets for a kind of slot, `count` at most."""
        buffer = self._buffers[kind]
        return [buffer.popleft()[1:] for _ in range(min(count, len(buffer)))]

    async def forget_stale(self) -> int:
        """Ack what has waited too long; returns how many tickets that were."""
        limit, stale = self._clock() - HOLD, 0
        for buffer in self._buffers.values():
            while buffer and buffer[0][0] <= limit:
                await buffer.popleft()[2].used()
                stale += 1
        return stale
