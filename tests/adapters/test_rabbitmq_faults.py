"""RabbitMQ behind a network that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from taskflow.adapters.rabbitmq import RabbitBroker, broker, calls, consuming, link, probe, publishing
from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import Ticket
from taskflow.testing.broker import Landing, lane_key, tickets_of
from taskflow.testing.facts import steady, until
from tests.rabbit import House
from tests.throwaway.proxy import Proxy, through

pytestmark = pytest.mark.adapter("rabbitmq")


@pytest.fixture
async def proxy(rabbit: House) -> AsyncIterator[Proxy]:
    """Stands before RabbitMQ."""
    async with Proxy.before(rabbit.url) as running:
        yield running


@pytest.fixture
def behind(rabbit: House, proxy: Proxy) -> RabbitBroker:
    """A broker behind the proxy, not opened."""
    return RabbitBroker.from_url(through(rabbit.url, proxy), namespace=rabbit.namespace)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short deadlines."""
    monkeypatch.setattr(publishing, "DEADLINE", 0.5)
    monkeypatch.setattr(probe, "ANSWER", 0.3)
    monkeypatch.setattr(consuming, "WATCH", 0.2)
    monkeypatch.setattr(calls, "GRACE", 0.2)
    monkeypatch.setattr(link, "CLOSE", 0.3)
    monkeypatch.setattr(link, "CONNECT", 0.5)
    monkeypatch.setattr(broker, "GREET", 0.1)


async def deliver(opened: RabbitBroker, sent: list[Ticket]) -> None:
    """Publish as the draw's neighbour would: again until it is confirmed, within the time a recovery may take."""

    async def published() -> bool:
        try:
            await opened.publish(sent)
        except BrokerUnavailable:
            return False
        return True

    await until(published)


async def answers(opened: RabbitBroker) -> bool:
    """Whether a ping is answered."""
    try:
        await opened.ping()
    except BrokerUnavailable:
        return False
    return True


async def test_the_process_starts_while_rabbitmq_is_down(behind: RabbitBroker, proxy: Proxy, impatient: None) -> None:
    """Nothing raises but what needs the broker; once it is there, everything works."""
    key, landing = lane_key(), Landing()
    proxy.refuse()
    async with behind as opened, opened.consume([key], 10, landing) as consumption:
        assert not consumption.live
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            await opened.ping()
        with pytest.raises(BrokerUnavailable, match="cannot be reached"):
            await opened.publish(tickets_of(key, 1))
        with pytest.raises(BrokerUnavailable):
            await opened.depth(key)
        await consumption.follow([key])
        proxy.refuse(False)
        await until(lambda: consumption.live)
        await until(lambda: answers(opened))
        sent = tickets_of(key, 3)
        await opened.publish(sent)
        await until(lambda: landing.tickets == sent)


async def test_a_cut_link_comes_back(behind: RabbitBroker, proxy: Proxy, rabbit: House) -> None:
    """Again and again; deliveries of the dead channel are acked without an error, and come once more."""
    key, landing = lane_key(), Landing()
    async with behind as opened, opened.consume([key], 10, landing) as consumption:
        for _ in range(5):
            await until(lambda: consumption.live)
            sent = tickets_of(key, 1)
            await deliver(opened, sent)
            await until(lambda: set(sent) <= set(landing.tickets))  # noqa: B023 - awaited here
            proxy.cut()
            await until(lambda: not consumption.live)
            await landing.ack()
        await until(lambda: consumption.live)
        await until(lambda: len(landing.tickets) > 5)
        await landing.ack()

        async def is_empty() -> bool:
            return await opened.depth(key) == 0

        await until(is_empty)
        await until(lambda: answers(opened))


async def test_a_publish_that_is_cut_off_says_so(behind: RabbitBroker, proxy: Proxy) -> None:
    """Whatever the driver raises is a BrokerUnavailable; its CancelledErrors are nobody's wish."""
    key = lane_key()
    async with behind as opened:
        await opened.publish(tickets_of(key, 1))
        proxy.freeze()
        publishing_now = asyncio.create_task(opened.publish(tickets_of(key, 100)))
        await asyncio.wait({publishing_now}, timeout=0.1)
        proxy.cut()
        with pytest.raises(BrokerUnavailable):
            await publishing_now
        assert publishing_now.cancelling() == 0
        proxy.thaw()


async def test_a_frozen_link_is_given_up(behind: RabbitBroker, proxy: Proxy, impatient: None) -> None:
    """Nothing is closed and nothing answers: publish and ping end in time, and new connections are made."""
    key, landing = lane_key(), Landing()
    async with behind as opened, opened.consume([key], 10, landing) as consumption:
        await deliver(opened, tickets_of(key, 1))
        await until(lambda: landing.tickets)
        before = proxy.accepted
        proxy.freeze()
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await opened.publish(tickets_of(key, 1))
        with pytest.raises(BrokerUnavailable):
            await opened.ping()
        assert time.monotonic() - started < 3
        await until(lambda: proxy.accepted >= before + 2)
        proxy.cut()
        proxy.thaw()
        sent = tickets_of(key, 1)
        await deliver(opened, sent)
        await until(lambda: sent[0] in landing.tickets)
        await until(lambda: consumption.live)


async def test_a_link_that_dies_before_it_was_ever_looked_at_is_given_up(
    behind: RabbitBroker, proxy: Proxy, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-open within the first moments of a connection: the look that finds nobody there is the first one, and must not
    only fail."""
    monkeypatch.setattr(link, "EXAMINE", 0.3)
    key, landing = lane_key(), Landing()
    async with behind as opened, opened.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        before = opened._consume_link.connection
        proxy.abandon()
        await until(lambda: opened._consume_link.connection not in {None, before})
        await until(lambda: consumption.live)
        sent = tickets_of(key, 1)
        await deliver(opened, sent)
        await until(lambda: sent[0] in landing.tickets)


async def test_heartbeats_find_a_silent_link(rabbit: House, proxy: Proxy) -> None:
    """The driver ends its own awaits with cancellations then: the supervisor survives them, and connects again."""
    key, landing = lane_key(), Landing()
    url = urlsplit(through(rabbit.url, proxy))._replace(query="heartbeat=1").geturl()
    async with (
        RabbitBroker.from_url(url, namespace=rabbit.namespace) as opened,
        opened.consume([key], 10, landing) as consumption,
    ):
        await until(lambda: consumption.live)
        await deliver(opened, tickets_of(key, 1))
        proxy.freeze()
        await until(lambda: opened._publish_link.connection is None, within=15)
        proxy.cut()
        proxy.thaw()
        sent = tickets_of(key, 1)
        await deliver(opened, sent)
        await until(lambda: sent[0] in landing.tickets)


async def test_a_black_hole_at_connecting_is_left(behind: RabbitBroker, proxy: Proxy, impatient: None) -> None:
    """A connection that is taken and never answered is no reason to wait for ever."""
    proxy.swallow()
    async with behind as opened:
        await until(lambda: proxy.accepted >= 6)
        assert opened._publish_link.connection is None
        proxy.swallow(False)
        proxy.cut()
        await until(lambda: answers(opened))


async def test_closing_never_hangs(behind: RabbitBroker, proxy: Proxy, impatient: None) -> None:
    """Not even on a link that is frozen."""
    key, landing = lane_key(), Landing()
    async with behind as opened, opened.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        await deliver(opened, tickets_of(key, 2))
        await until(lambda: len(landing.tickets) == 2)
        proxy.freeze()
        await landing.ack()
        started = time.monotonic()
    assert time.monotonic() - started < 15
    proxy.cut()
    proxy.thaw()


async def test_a_link_that_flaps_is_not_hammered(behind: RabbitBroker, proxy: Proxy) -> None:
    """Connections that die at once are tried again with growing pauses."""
    async with behind as opened:
        await until(lambda: opened._publish_link.connection is not None)
        proxy.part()
        before = proxy.accepted
        await steady(lambda: proxy.accepted - before <= 16, during=1.0)
        assert proxy.accepted > before
