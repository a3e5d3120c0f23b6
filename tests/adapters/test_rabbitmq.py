"""RabbitMQ on the real server, under names of our own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiormq import Channel, spec
from aiormq.abc import DeliveredMessage

from taskflow.adapters.rabbitmq import RabbitBroker, consuming, lane, publishing
from taskflow.adapters.rabbitmq.lane import LaneConsumer
from taskflow.core.job import Lane, LaneKey
from taskflow.ports.broker import Broker, Delivery, Inspectable, LaneStanding
from taskflow.testing.broker import BrokerSuite, Landing, lane_key, tickets_of
from taskflow.testing.facts import steady, until
from tests.rabbit import House

pytestmark = pytest.mark.adapter("rabbitmq")


@pytest.fixture
async def broker(rabbit: House) -> AsyncIterator[RabbitBroker]:
    """An opened one."""
    async with RabbitBroker.from_url(rabbit.url, namespace=rabbit.namespace) as opened:
        yield opened


async def forget_consumers(broker: RabbitBroker) -> None:
    """Make the broker forget the consumers of this process; they are not told."""
    connection = broker._consume_link.connection
    assert connection is not None
    for channel in connection.channels.values():
        assert isinstance(channel, Channel)
        for tag in list(channel.consumers):
            await channel.rpc(spec.Basic.Cancel(consumer_tag=tag), timeout=5)


async def ignore(message: DeliveredMessage) -> None:
    """Take a message and do nothing about it."""


class TestRabbitBroker(BrokerSuite):
    """The contract."""

    @pytest.fixture
    def broker(self, broker: RabbitBroker) -> Broker:
        """An opened one."""
        return broker


async def test_every_return_is_seen(broker: RabbitBroker, rabbit: House) -> None:
    """The driver matches a returned message by its id, so each attempt has a new one: a whole batch is sent again."""
    key, landing = lane_key(), Landing()
    await broker.publish(tickets_of(key, 1))
    await rabbit.delete(rabbit.queue(key))
    sent = tickets_of(key, 50)
    await broker.publish([*sent, sent[0]])
    async with broker.consume([key], 200, landing):
        await until(lambda: landing.tickets == [*sent, sent[0]])


async def test_a_deleted_queue_is_made_and_consumed_again(broker: RabbitBroker, rabbit: House) -> None:
    """The broker cancels its consumer then, and says so once."""
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        before = consumption._lanes[key].subscribed
        await rabbit.delete(rabbit.queue(key))
        await until(lambda: consumption.live and consumption._lanes[key].subscribed > before)
        sent = tickets_of(key, 3)
        await broker.publish(sent)
        await until(lambda: landing.tickets == sent)


async def test_a_queue_that_is_made_again_at_once_is_consumed_again(
    broker: RabbitBroker, rabbit: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ 3.10 then tells the consumer nothing, counts it and sends it nothing: the watchdog finds it."""
    monkeypatch.setattr(consuming, "WATCH", 0.3)
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        await rabbit.delete(rabbit.queue(key))
        sent = tickets_of(key, 3)
        await broker.publish(sent)
        await until(lambda: set(landing.tickets) == set(sent))


async def test_a_queue_of_somebody_else_is_left_alone(
    broker: RabbitBroker, rabbit: House, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once; its tickets are dropped, for their rows are drawn; other lanes do not notice."""
    theirs, ours, landing = lane_key(), lane_key(), Landing()
    await rabbit.declare(rabbit.queue(theirs), {"x-queue-type": "classic"})
    async with broker.consume([theirs, ours], 10, landing) as consumption:
        for _ in range(2):
            await broker.publish([*tickets_of(theirs, 1), *tickets_of(ours, 1)])
        await until(lambda: [ticket.lane for ticket in landing.tickets] == [ours, ours])
        assert not consumption.live
    assert await rabbit.ready(rabbit.queue(theirs)) == 0
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(told) == 1
    assert rabbit.queue(theirs) in told[0].message


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x02" + bytes(25), b"\x01" + bytes(26), b"\x01" + b"\xff" * 25])
async def test_what_cannot_be_read_goes_to_the_dead_queue(broker: RabbitBroker, rabbit: House, body: bytes) -> None:
    """A newer version, too; the consumer goes on with the next one."""
    key, landing = lane_key(), Landing()
    await broker.publish(tickets_of(key, 1))
    await rabbit.send(rabbit.queue(key), body)
    await broker.publish(tickets_of(key, 1))

    async def is_dead() -> bool:
        return await rabbit.ready(rabbit.topology.dead) == 1

    async with broker.consume([key], 10, landing):
        await until(lambda: len(landing.tickets) == 2)
        await until(is_dead)
    async with rabbit.channel() as channel:
        got = await channel.basic_get(rabbit.topology.dead, no_ack=True)
    assert got.body == body


async def test_a_call_that_is_given_up_leaves_its_channel_alone(broker: RabbitBroker) -> None:
    """The driver would close it: a caller's deadline must not reach the driver."""
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        assert await broker.depth(key) == 0
        channel = broker._probes[1]._channel
        assert channel is not None
        for _ in range(20):
            asking = asyncio.create_task(broker.depth(key))
            await asyncio.wait({asking}, timeout=0)
            asking.cancel()
            await asyncio.wait({asking})
        assert await broker.depth(key) == 0
        assert broker._probes[1]._channel is channel
        assert not channel.is_closed
        await consumption.follow([key])
        assert consumption.live


async def test_depth_of_a_missing_queue_is_nothing(broker: RabbitBroker) -> None:
    """The question closes its channel, and no other: consumers and the next question go on."""
    known, landing = lane_key(), Landing()
    async with broker.consume([known], 10, landing) as consumption:
        await until(lambda: consumption.live)
        assert await broker.depth(lane_key()) == 0
        assert await broker.depth(known) == 0
        assert consumption.live
        await broker.ping()


async def test_how_lanes_and_the_dead_queue_stand(broker: RabbitBroker, rabbit: House) -> None:
    """For whoever checks a deployment: what waits, who consumes, what was given up on."""
    key, missing = lane_key(), lane_key()
    assert isinstance(broker, Inspectable)
    await broker.publish(tickets_of(key, 2))

    async def waiting() -> bool:
        return await broker.standing(key) == LaneStanding(ready=2, consumers=0)

    async def consumed() -> bool:
        standing = await broker.standing(key)
        # One that was cancelled, to change its window, is counted while what it was handed out is unacked.
        return standing is not None and standing.consumers >= 1

    await until(waiting)
    assert await broker.standing(missing) is None
    assert await broker.dead() == 0
    async with broker.consume([key], 10, Landing()):
        await until(consumed)
        await rabbit.send(rabbit.queue(key), b"no ticket")

        async def one_is_dead() -> bool:
            return await broker.dead() == 1

        await until(one_is_dead)


async def test_a_consumer_that_vanished_is_found(
    broker: RabbitBroker, rabbit: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker has forgotten it and nobody was told: the watchdog asks, and subscribes again."""
    monkeypatch.setattr(consuming, "WATCH", 0.1)
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        await forget_consumers(broker)
        sent = tickets_of(key, 2)
        await broker.publish(sent)
        await until(lambda: landing.tickets == sent)
        assert "no consumer" in caplog.text


async def test_a_consumer_that_hears_nothing_is_renewed(
    broker: RabbitBroker, rabbit: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker counts a consumer, but messages wait and none come: here another one takes none of them either."""
    monkeypatch.setattr(consuming, "WATCH", 0.1)
    key, landing = lane_key(), Landing()
    async with rabbit.channel() as deaf, broker.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        # A consumer without a window keeps the count at one when ours is taken away.
        await deaf.basic_qos(prefetch_count=1)
        await deaf.basic_consume(rabbit.queue(key), ignore)
        await broker.publish(tickets_of(key, 1))
        await forget_consumers(broker)
        await broker.publish(tickets_of(key, 5))
        await until(lambda: len(landing.tickets) >= 4)
        assert "room for them" in caplog.text


async def test_a_consumer_that_vanished_beside_one_that_takes_everything_is_renewed(
    broker: RabbitBroker, rabbit: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker counts a consumer and no message waits: nothing that can be asked says that ours is none of them."""
    monkeypatch.setattr(consuming, "WATCH", 0.1)
    monkeypatch.setattr(consuming, "DOUBT", 0.5)
    key, landing, took = lane_key(), Landing(), 0

    async with rabbit.channel() as other, broker.consume([key], 10, landing) as consumption:

        async def take(message: DeliveredMessage) -> None:
            nonlocal took
            took += 1
            await other.basic_ack(message.delivery_tag or 0)

        await until(lambda: consumption.live)
        await other.basic_consume(rabbit.queue(key), take)
        await forget_consumers(broker)

        async def both_are_served() -> bool:
            await broker.publish(tickets_of(key, 1))
            await landing.ack()
            return bool(landing.tickets and took)

        await until(both_are_served)


async def test_acks_out_of_order_settle_what_they_name(broker: RabbitBroker) -> None:
    """Acks are sent in one go where they make a row; what was not acked comes back."""
    key, first, second = lane_key(), Landing(), Landing()
    sent = tickets_of(key, 60)
    async with broker.consume([key], 100, first):
        await broker.publish(sent)
        await until(lambda: len(first.tickets) == 60)
        kept = {0, 7, 8, 30, 59}
        for number in (*range(59, 20, -1), *range(21)):
            if number not in kept:
                await first.deliveries[number].ack()
    async with broker.consume([key], 100, second):
        await until(lambda: second.tickets == [sent[number] for number in sorted(kept)])
        await steady(lambda: len(second.tickets) == len(kept))


async def test_a_dropped_lane_takes_acks_for_what_it_delivered(broker: RabbitBroker) -> None:
    """Its consumer is cancelled at once; its channel waits until the buffer is empty."""
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 10, landing) as consumption:
        await broker.publish(tickets_of(key, 3))
        await until(lambda: len(landing.tickets) == 3)
        await consumption.follow([])
        await landing.ack()
        await until(lambda: all(each.ended for each in consumption._leaving))
        assert await broker.depth(key) == 0


async def test_a_window_closes_again_when_its_lane_falls_quiet(
    broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small messages open it; after a quiet time nobody knows how large the next ones are."""
    monkeypatch.setattr(lane, "IDLE", 0.2)
    monkeypatch.setattr(lane, "RESIZE", 0.0)
    monkeypatch.setattr(consuming, "TICK", 0.05)
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 40, landing) as consumption:
        await broker.publish(tickets_of(key, 60))
        consumer = consumption._lanes[key]
        await until(lambda: len(landing.tickets) == 40)
        await steady(lambda: len(landing.tickets) == 40)

        async def drained() -> bool:
            await landing.ack()
            return len(landing.tickets) == 60

        await until(drained)
        await landing.ack()
        await until(lambda: consumer._size == 2)
        landing.deliveries.clear()
        await broker.publish(tickets_of(key, 400), share=20)
        await until(lambda: landing.tickets)
        await steady(lambda: len(landing.tickets) <= 40, during=0.5)


async def test_what_a_quiet_lane_may_get_is_not_counted_in_the_size_of_its_last_message(
    broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the room of lanes in use for ever."""
    monkeypatch.setattr(lane, "IDLE", 0.2)
    monkeypatch.setattr(consuming, "TICK", 0.05)
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 100, landing) as consumption:
        await broker.publish(tickets_of(key, 64), share=64)
        consumer = consumption._lanes[key]
        await until(lambda: len(landing.tickets) == 64)
        assert consumer.claimed > consumer._size
        await landing.ack()
        await until(lambda: consumer.live and consumer.claimed <= consumer._size)


async def test_nobody_looks_at_windows_while_nothing_comes(
    broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle process sleeps. The first delivery wakes it, and it sleeps again when the lane is quiet."""
    monkeypatch.setattr(lane, "IDLE", 0.2)
    monkeypatch.setattr(consuming, "TICK", 0.01)
    looks = 0
    look = LaneConsumer.look

    def counted(consumer: LaneConsumer) -> None:
        nonlocal looks
        looks += 1
        look(consumer)

    monkeypatch.setattr(LaneConsumer, "look", counted)

    async def quiet() -> bool:
        before = looks
        await steady(lambda: True, 0.1)
        return looks == before

    key, landing = lane_key(), Landing()
    async with broker.consume([key], 100, landing) as consumption:
        await until(lambda: consumption.live)
        for turn in range(2):
            await until(quiet)
            before = looks
            await broker.publish(tickets_of(key, 1))
            await until(lambda turn=turn: len(landing.tickets) == turn + 1)  # type: ignore[misc]
            await until(lambda before=before: looks > before)  # type: ignore[misc]
            await landing.ack()


async def test_a_lane_of_higher_weight_gets_more(broker: RabbitBroker) -> None:
    """A low backlog leaves room for high jobs, and is served itself."""
    high, low, landing = LaneKey(lane_key().queue, Lane.HIGH), lane_key(Lane.LOW), Landing()
    async with broker.consume([high, low], 20, landing):
        await broker.publish([*tickets_of(low, 300), *tickets_of(high, 300)])

        async def served() -> bool:
            for delivery in landing.deliveries[:]:
                await delivery.ack()
            return len(landing.tickets) >= 300

        await until(served)
    lanes = [ticket.lane for ticket in landing.tickets]
    assert lanes.count(high) > lanes.count(low) > 0


async def test_a_lane_that_rests_comes_back(broker: RabbitBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It held everything when others needed room; once it is acked, it is consumed again, however late that is."""
    monkeypatch.setattr(lane, "IDLE", 0.1)
    monkeypatch.setattr(consuming, "TICK", 0.05)
    high, low, landing = lane_key(Lane.HIGH), lane_key(Lane.LOW), Landing()
    async with broker.consume([high, low], 20, landing) as consumption:
        await broker.publish(tickets_of(low, 30))
        await until(lambda: len(landing.tickets) > 15)
        await broker.publish(tickets_of(high, 1))
        await until(lambda: consumption._lanes[low].resting)
        await steady(lambda: consumption._lanes[low].resting, during=0.3)
        assert consumption.live

        async def drained() -> bool:
            await landing.ack()
            return len(landing.tickets) == 31

        await until(drained)


async def test_a_consumer_that_fails_to_buffer_does_not_stop_the_lane(broker: RabbitBroker) -> None:
    """The tickets that it did not take are forgotten."""
    key, landing = lane_key(), Landing()

    def land(delivery: Delivery) -> None:
        landing(delivery)
        if len(landing.deliveries) == 1:
            raise RuntimeError("no room")

    async with broker.consume([key], 1, land):
        await broker.publish(tickets_of(key, 2))
        await until(lambda: len(landing.tickets) == 2)


async def test_callers_share_the_pipeline(rabbit: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many publishes at once, more messages than may be in flight, each lane in its order."""
    monkeypatch.setattr(publishing, "IN_FLIGHT", 10)
    keys, landing = [lane_key() for _ in range(5)], Landing()
    sent = {key: tickets_of(key, 100) for key in keys}
    async with RabbitBroker(rabbit.url, rabbit.namespace) as opened, opened.consume(keys, 1_000, landing):
        await asyncio.gather(*(opened.publish(tickets) for tickets in sent.values()))
        await until(lambda: len(landing.tickets) == 500)
    for key in keys:
        assert [ticket for ticket in landing.tickets if ticket.lane == key] == sent[key]
