"""Consuming: the lanes of one worker, and how they share its prefetch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from taskflow.core.job import Lane, LaneKey
from taskflow.ports.broker import Delivery
from taskflow_nats.lane import LaneConsumer
from taskflow_nats.link import Link
from taskflow_nats.streams import Streams

WEIGHTS: Final = {Lane.HIGH: 8, Lane.NORMAL: 3, Lane.LOW: 1}
LOOK: Final = 5.0
"""Seconds between two looks at lanes that may be deaf."""


class NatsConsumption:
    """Lanes that are asked for as many tickets as there is room for. Each may always have one message."""

    def __init__(self, link: Link, streams: Streams, prefetch: int, land: Callable[[Delivery], None]) -> None:
        self._link = link
        self._streams = streams
        self._prefetch = prefetch
        self._land = land
        self._lanes: dict[LaneKey, LaneConsumer] = {}
        self._left: list[LaneConsumer] = []
        self._stirred = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def live(self) -> bool:
        """Whether every lane has a consumer now."""
        return not self._closed and all(lane.live for lane in self._lanes.values())

    def start(self) -> None:
        """Begin to ask."""
        self._loops = [asyncio.create_task(self._ask()), asyncio.create_task(self._look())]

    async def follow(self, lanes: Iterable[LaneKey]) -> None:
        """Consume exactly these lanes; of a dropped one nothing more lands, and what did can be acked."""
        wanted = set(lanes)
        dropped = [self._lanes.pop(key) for key in self._lanes.keys() - wanted]
        self._left = [lane for lane in self._left if lane.held] + dropped
        for key in sorted(wanted - self._lanes.keys()):
            lane = LaneConsumer(key, self._link, self._streams, self._land, self._room, self._stirred.set)
            self._lanes[key] = lane
            lane.start()
        await asyncio.gather(*(lane.stop() for lane in dropped))

    async def close(self) -> None:
        """Take nothing more, and give back what was not acked."""
        self._closed = True
        for loop in self._loops:
            loop.cancel()
        lanes = [*self._lanes.values(), *self._left]
        await asyncio.gather(*(lane.stop() for lane in lanes))
        await asyncio.gather(*(lane.give_back() for lane in lanes))
        session = self._link.session
        if session is not None:
            await session.settle()

    def _room(self, lane: LaneConsumer) -> int:
        """Tickets that a lane may ask for: a message, or what its fair part leaves where it has more; no more than all the others leave."""
        lanes = self._lanes.values()
        spare = max(0, self._prefetch - len(lanes))
        weights = sum(WEIGHTS[each.key.lane] for each in lanes if each.active or each is lane)
        wanted = 1 + spare * WEIGHTS[lane.key.lane] // weights - lane.held if lane.active else lane.size
        taken = sum(each.held + each.asked for each in [*lanes, *self._left])
        room = min(wanted, self._prefetch - taken)
        return room if lane.held else max(1, room)

    async def _ask(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            for lane in sorted(self._lanes.values(), key=lambda lane: lane.key.lane):
                await lane.ask()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for lane in self._lanes.values():
                lane.look()
