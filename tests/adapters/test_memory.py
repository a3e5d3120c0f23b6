"""The adapters that live in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from taskflow.adapters.memory import MemoryBroker, MemoryCache, MemoryEvents, broker
from taskflow.adapters.shared import mailbox
from taskflow.core.job import Lane, LaneKey
from taskflow.ports.broker import Broker, Delivery
from taskflow.ports.cache import Cache
from taskflow.ports.events import Events
from taskflow.testing.broker import BrokerSuite, Landing, lane_key, tickets_of
from taskflow.testing.cache import CacheSuite
from taskflow.testing.events import EventsSuite, following
from taskflow.testing.facts import until

pytestmark = pytest.mark.adapter("memory")


class TestMemoryBroker(BrokerSuite):
    """The contract."""

    @pytest.fixture
    async def broker(self) -> AsyncIterator[Broker]:
        """An opened one."""
        async with MemoryBroker.from_url("memory://") as opened:
            yield opened


class TestMemoryCache(CacheSuite):
    """The contract."""

    @pytest.fixture
    async def cache(self) -> AsyncIterator[Cache]:
        """An opened one."""
        async with MemoryCache.from_url("memory://") as opened:
            yield opened


class TestMemoryEvents(EventsSuite):
    """The contract."""

    @pytest.fixture
    async def events(self) -> AsyncIterator[Events]:
        """An opened one."""
        async with MemoryEvents.from_url("memory://") as opened:
            yield opened


async def one_by_one(opened: MemoryBroker, lanes: list[LaneKey], count: int) -> list[LaneKey]:
    """The lanes of the next tickets, each acked before the next comes."""
    landing = Landing()
    served: list[LaneKey] = []
    async with opened.consume(lanes, 1, landing):
        while len(served) < count:
            await until(lambda: landing.deliveries)
            delivery = landing.deliveries.pop()
            served += [ticket.lane for ticket in delivery.tickets]
            await delivery.ack()
    return served


async def test_lanes_are_served_by_weight() -> None:
    """8:3:1, none starved, and the heavy one does not come in one piece."""
    async with MemoryBroker() as opened:
        lanes = [LaneKey("q", lane) for lane in Lane]
        for lane in lanes:
            await opened.publish(tickets_of(lane, 50))
        served = [lane.lane for lane in await one_by_one(opened, lanes, 24)]
    assert Counter(served) == {Lane.HIGH: 16, Lane.NORMAL: 6, Lane.LOW: 2}
    assert Lane.NORMAL in served[:5]


async def test_queues_are_served_in_turn() -> None:
    """A long queue does not keep a short one waiting."""
    async with MemoryBroker() as opened:
        long, short = LaneKey("long", Lane.NORMAL), LaneKey("short", Lane.NORMAL)
        await opened.publish([*tickets_of(long, 100), *tickets_of(short, 3)])
        served = await one_by_one(opened, [long, short], 6)
    assert served == [long, short] * 3


async def test_a_full_lane_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The draw finds the rows; the oldest tickets stay."""
    monkeypatch.setattr(broker, "LANE_CAP", 3)
    async with MemoryBroker() as opened:
        lane = lane_key()
        sent = tickets_of(lane, 5)
        await opened.publish(sent)
        landing = Landing()
        async with opened.consume([lane], 10, landing):
            await until(lambda: landing.tickets == sent[:3])
        assert opened.forgotten == 2


async def test_returned_tickets_go_to_the_front() -> None:
    """In their order, before what came meanwhile."""
    async with MemoryBroker() as opened:
        lane = lane_key()
        sent = tickets_of(lane, 4)
        await opened.publish(sent[:2])
        landing, again = Landing(), Landing()
        async with opened.consume([lane], 2, landing):
            await until(lambda: len(landing.tickets) == 2)
            await opened.publish(sent[2:])
        async with opened.consume([lane], 10, again):
            await until(lambda: again.tickets == sent)


async def test_a_consumer_that_fails_does_not_stop_the_lane() -> None:
    """The ticket that it did not take is forgotten."""
    async with MemoryBroker() as opened:
        lane = lane_key()
        landing = Landing()

        def land(delivery: Delivery) -> None:
            if not landing.deliveries:
                landing(delivery)
                raise RuntimeError("no room")
            landing(delivery)

        async with opened.consume([lane], 1, land):
            await opened.publish(tickets_of(lane, 2))
            await until(lambda: len(landing.tickets) == 2)


async def test_the_cache_forgets_what_was_used_least_recently() -> None:
    """And never holds more than its capacity; what is larger than that is not kept."""
    async with MemoryCache(capacity=3_000) as cache:
        for key in "abc":
            await cache.put(key, b"x" * 700, 60)
        await cache.get("a")
        await cache.put("d", b"x" * 700, 60)
        assert [await cache.get(key) is None for key in "abcd"] == [False, True, False, False]
        await cache.put("a", b"x" * 3_000, 60)
        assert await cache.get("a") is None
        await cache.put("d", b"x" * 2_700, 60)
        assert await cache.get("c") is None


async def test_the_cache_believes_its_clock() -> None:
    """A value is gone at its time, not before."""
    now = 100.0
    async with MemoryCache(clock=lambda: now) as cache:
        await cache.put("a", b"x", 10)
        now = 109.9
        assert await cache.get("a") == b"x"
        now = 110.0
        assert await cache.get("a") is None


async def test_a_slow_subscriber_loses_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by bytes; the newest is always there."""
    monkeypatch.setattr(mailbox, "WAITING", 3)
    monkeypatch.setattr(mailbox, "WAITING_BYTES", 10)
    async with MemoryEvents() as opened, opened.subscribe("t") as messages:
        for number in range(5):
            await opened.publish("t", b"%d" % number)
        assert [body for _, body in await following(messages, 3)] == [b"2", b"3", b"4"]
        for body in (b"x" * 8, b"y" * 8, b"z" * 20):
            await opened.publish("t", body)
        assert await following(messages, 1) == [("t", b"z" * 20)]
