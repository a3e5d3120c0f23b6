"""A consumption: a consumer for each lane, windows that share the prefetch, and a watchdog over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from taskflow.adapters.rabbitmq import window
from taskflow.adapters.rabbitmq.calls import RPC, log, text_of
from taskflow.adapters.rabbitmq.lane import LINGER, LaneConsumer
from taskflow.adapters.rabbitmq.link import Link
from taskflow.adapters.rabbitmq.probe import Probe
from taskflow.adapters.rabbitmq.topology import Topology
from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import LaneKey
from taskflow.ports.broker import Delivery, LaneStanding

TICK: Final = 0.25
"""Seconds between two looks at the windows."""
WATCH: Final = 5.0
"""Seconds between two questions whether the broker knows our consumers."""
DOUBT: Final = 10.0
"""Seconds without a delivery after which a lane subscribes again, though nothing is known to be wrong."""

MOMENT: Final = 0.2


class RabbitConsumption:
    """What `RabbitBroker.consume` yields."""

    def __init__(
        self, link: Link, topology: Topology, probe: Probe, prefetch: int, land: Callable[[Delivery], None]
    ) -> None:
        self._link = link
        self._topology = topology
        self._probe = probe
        self._prefetch = prefetch
        self._land = land
        self._lanes: dict[LaneKey, LaneConsumer] = {}
        self._leaving: list[LaneConsumer] = []
        self._stirred = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._closed = False

    @property
    def live(self) -> bool:
        """Whether every followed lane is consumed at the broker now."""
        connected = not self._closed and self._link.connection is not None
        return connected and all(lane.live for lane in self._lanes.values())

    def start(self) -> None:
        """Begin to look after the lanes."""
        self._loops = [asyncio.create_task(self._tick()), asyncio.create_task(self._watch())]

    async def follow(self, lanes: Iterable[LaneKey]) -> None:
        """Consume exactly these lanes; a dropped one sends nothing more when this returns, its deliveries can be acked."""
        wanted = set(lanes)
        dropped = [self._lanes.pop(key) for key in self._lanes.keys() - wanted]
        self._leaving = [lane for lane in self._leaving if not lane.ended] + dropped
        for key in sorted(wanted - self._lanes.keys()):
            self._lanes[key] = LaneConsumer(
                key, self._link, self._topology, self._land, self._target, self._stirred.set
            )
            self._lanes[key].start()
        await asyncio.gather(*(lane.stop(LINGER) for lane in dropped))

    async def close(self) -> None:
        """Cancel the consumers first, then send the acks, then close the channels; all of it within a deadline."""
        self._closed = True
        for loop in self._loops:
            loop.cancel()
        lanes = [*self._lanes.values(), *self._leaving]
        await asyncio.gather(*(lane.stop(0.0) for lane in lanes))
        await asyncio.gather(*(lane.end(RPC) for lane in lanes))

    def _target(self, key: LaneKey) -> int:
        """A lane's part of the prefetch, in tickets."""
        active = {other for other, lane in self._lanes.items() if lane.active}
        fair = window.budget(key, self._lanes.keys(), active, self._prefetch)
        claimed = {other: lane.claimed for other, lane in self._lanes.items()}
        return max(1, min(fair, window.room(key, claimed, self._prefetch)))

    async def _tick(self) -> None:
        while True:
            if not any(lane.stirs for lane in self._lanes.values()):
                # Nobody wakes an idle process four times a second for nothing.
                self._stirred.clear()
                await self._stirred.wait()
            await asyncio.sleep(TICK)
            for lane in self._lanes.values():
                lane.look()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH)
            for lane in [lane for lane in self._lanes.values() if lane.live and not lane.resting]:
                try:
                    await self._check(lane)
                except BrokerUnavailable as error:
                    log.debug("%s cannot be looked at: %s", lane.key, error)
                except Exception as error:
                    log.exception("%s cannot be looked at: %s", lane.key, text_of(error))

    async def _check(self, lane: LaneConsumer) -> None:
        """Consumers vanish without a word (the field has seen it with every client): ask, and subscribe again."""
        since = lane.subscribed
        standing = await self._standing(lane)
        if standing and standing.ready and lane.deaf(WATCH):
            # It may have come this very moment.
            await asyncio.sleep(MOMENT)
            standing = await self._standing(lane)
        if not lane.live or lane.subscribed != since:
            return
        why = ""
        if standing is None:
            why = "its queue is gone"
        elif standing.consumers == 0:
            why = "the broker has no consumer for it"
        elif standing.ready and lane.deaf(WATCH):
            why = f"{standing.ready} messages wait, there is room for them, and none came for {WATCH:g} s"
        if why:
            log.warning("%s is subscribed again: %s", self._topology.queue(lane.key), why)
            lane.renew(why)
        elif lane.deaf(DOUBT):
            # A consumer may have vanished beside one that takes all there is: nothing that can be asked tells them apart.
            lane.subscribe_again()

    async def _standing(self, lane: LaneConsumer) -> LaneStanding | None:
        return await self._probe.queue(self._topology.queue(lane.key))
