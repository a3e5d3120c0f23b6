"""Ports that are slow, fail, lose and double, as their seed wills it."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from taskflow.adapters.memory import MemoryBroker
from taskflow.core.errors import BrokerUnavailable, StoreUnavailable
from taskflow.core.job import LaneKey, Ticket
from taskflow.ports.broker import Consumption, Delivery
from taskflow.testing.memory import MemoryStore
from tests.models.virtual_time import pause

SLOWEST: Final = 1.5
"""A call and its answer together stay below the two beats after which a worker gives back what it has not heard of."""


class Chaos:
    """How likely each trouble is: drawn for each seed, so that each has its own weather. Nothing while `calm`."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(f"chaos {seed}")
        self.calm = False
        self.store_down = self.broker_down = False
        self._likely = {
            name: self.dice.choice((0.0, most / 4, most))
            for name, most in {
                "fails before": 0.1, "fails after": 0.1, "slow": 0.2, "ticket lost": 0.6, "ticket doubled": 0.3,
                "tickets shuffled": 0.5, "event lost": 0.5, "handler fails": 0.3, "handler lasts": 0.2, "handler kills": 0.04, "snooze": 0.1,
            }.items()
        }  # fmt: skip
        self.happened: dict[str, int] = dict.fromkeys(self._likely, 0)
        self._trace = hashlib.sha256()

    def strikes(self, what: str) -> bool:
        """Whether it happens now."""
        hit = not self.calm and self.dice.random() < self._likely[what]
        self.happened[what] += hit
        return hit

    def delay(self) -> float:
        """Seconds that a message takes."""
        return self.dice.uniform(0, SLOWEST) if self.strikes("slow") else self.dice.uniform(0.0001, 0.01)

    def note(self, *facts: object) -> None:
        """Add to what makes a run of a seed the same as another."""
        self._trace.update(repr(facts).encode())

    @property
    def digest(self) -> str:
        """Of everything noted."""
        return self._trace.hexdigest()


@dataclass(eq=False, slots=True)
class Life:
    """Whether a process is there, and whether its way to the store is. `spawn` begins what outlives it: a statement on its way to the store."""

    name: str
    spawn: Callable[[Coroutine[Any, Any, None]], object]
    dead: bool = False
    cut_off: bool = False

    def check(self) -> None:
        """The dead do nothing."""
        if self.dead:
            raise asyncio.CancelledError(f"{self.name} is dead")


class StorePort:
    """A process's way to the store: what was sent arrives, or not; it takes effect, and its answer comes back, or not."""

    def __init__(self, store: MemoryStore, life: Life, chaos: Chaos) -> None:
        self._store, self._life, self._chaos = store, life, chaos

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return partial(self._call, method)

    @asynccontextmanager
    async def heart(self) -> AsyncIterator[StorePort]:
        """Another connection, with troubles of its own."""
        yield self

    async def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        self._life.check()
        answer = asyncio.get_running_loop().create_future()
        self._life.spawn(self._carry(method, arguments, options, answer))
        return await answer

    async def _carry(
        self, method: str, arguments: tuple[Any, ...], options: dict[str, Any], answer: asyncio.Future[Any]
    ) -> None:
        chaos = self._chaos
        await pause(chaos.delay())
        result: Any = None
        error: Exception | None = None
        if chaos.store_down or self._life.cut_off or chaos.strikes("fails before"):
            error = StoreUnavailable("not reached")
        else:
            try:
                result = await getattr(self._store, method)(*arguments, **options)
            except Exception as refused:
                error = refused
            chaos.note(asyncio.get_running_loop().time(), self._life.name, method, arguments, result)
            await pause(chaos.delay())
            if chaos.strikes("fails after"):
                error = StoreUnavailable("the answer is lost")
        if answer.done() or self._life.dead:
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)


class BrokerPort:
    """A process's way to a broker that loses, doubles and shuffles tickets."""

    def __init__(self, broker: MemoryBroker, life: Life, chaos: Chaos) -> None:
        self._broker, self._life, self._chaos = broker, life, chaos

    async def publish(self, tickets: Sequence[Ticket], *, share: int = 1) -> None:
        """Some of them, some twice, in some order."""
        self._life.check()
        chaos = self._chaos
        await pause(chaos.delay())
        if chaos.broker_down or chaos.strikes("fails before"):
            raise BrokerUnavailable("not reached")
        arriving = [ticket for ticket in tickets if not chaos.strikes("ticket lost")]
        arriving += [ticket for ticket in arriving if chaos.strikes("ticket doubled")]
        if chaos.strikes("tickets shuffled"):
            chaos.dice.shuffle(arriving)
        self._life.check()
        await self._broker.publish(arriving, share=share)
        await pause(chaos.delay())
        if chaos.strikes("fails after"):
            raise BrokerUnavailable("not confirmed")

    @asynccontextmanager
    async def consume(
        self, lanes: Iterable[LaneKey], prefetch: int, land: Callable[[Delivery], None]
    ) -> AsyncIterator[Consumption]:
        """Until the process is gone; unacked tickets return."""

        def alive(delivery: Delivery) -> None:
            if not self._life.dead:
                land(delivery)

        async with self._broker.consume(lanes, prefetch, alive) as consumption:
            yield _Link(consumption, self._chaos)

    async def depth(self, lane: LaneKey) -> int:
        """Messages that wait in a lane."""
        return await self._broker.depth(lane)

    async def ping(self) -> None:
        """Nobody asks."""


class _Link:
    def __init__(self, consumption: Consumption, chaos: Chaos) -> None:
        self._consumption, self._chaos = consumption, chaos

    async def follow(self, lanes: Iterable[LaneKey]) -> None:
        await pause(self._chaos.delay())
        if self._chaos.strikes("fails before"):
            raise BrokerUnavailable("not reached")
        await self._consumption.follow(lanes)

    @property
    def live(self) -> bool:
        return self._consumption.live and not self._chaos.broker_down


class SimEvents:
    """Events that some do not hear."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._listeners: list[tuple[frozenset[str], asyncio.Queue[tuple[str, bytes]]]] = []

    async def publish(self, topic: str, body: bytes) -> None:
        """Tell who listens, mostly."""
        for topics, queue in self._listeners:
            if topic in topics and not self._chaos.strikes("event lost"):
                queue.put_nowait((topic, body))

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Tell of each."""
        for topic, body in messages:
            await self.publish(topic, body)

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Listen from here on."""
        listener = (frozenset(topics), asyncio.Queue[tuple[str, bytes]]())
        self._listeners.append(listener)

        async def heard() -> AsyncIterator[tuple[str, bytes]]:
            while True:
                yield await listener[1].get()

        try:
            yield heard()
        finally:
            self._listeners.remove(listener)

    async def ping(self) -> None:
        """Nobody asks."""
