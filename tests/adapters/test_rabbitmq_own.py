"""A RabbitMQ that is killed, and one that runs out of memory: nodes of the tests' own."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from taskflow.adapters.rabbitmq import RabbitBroker, publishing
from taskflow.core.errors import BrokerUnavailable
from taskflow.ports.broker import Delivery
from taskflow.testing.broker import Landing, lane_key, tickets_of
from taskflow.testing.facts import steady, until
from tests.throwaway import ThrowawayRabbitMQ

pytestmark = [
    pytest.mark.slow,
    pytest.mark.adapter("rabbitmq"),
]
RECOVERY = 10.0
"""Seconds from a broker that answers again to jobs that flow again."""


async def test_a_restart_is_survived(own_rabbitmq: ThrowawayRabbitMQ, caplog: pytest.LogCaptureFixture) -> None:
    """Confirmed tickets are still there, consumers are back within ten seconds, and the outage is told in few lines."""
    key, landing = lane_key(), Landing()
    async with RabbitBroker.from_url(own_rabbitmq.url) as opened, opened.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        kept = tickets_of(key, 5)
        await opened.publish(kept)
        await until(lambda: landing.tickets == kept)
        await own_rabbitmq.settle()
        own_rabbitmq.kill()
        await until(lambda: not consumption.live)
        await landing.ack()
        caplog.clear()
        with pytest.raises(BrokerUnavailable):
            await opened.publish(tickets_of(key, 1))
        await own_rabbitmq.start_beside()
        up = time.monotonic()
        await until(lambda: consumption.live, within=RECOVERY)
        sent = tickets_of(key, 1)
        await opened.publish(sent)
        await until(lambda: sent[0] in landing.tickets, within=RECOVERY - (time.monotonic() - up))
        assert {ticket.job_id for ticket in landing.tickets} == {ticket.job_id for ticket in [*kept, *sent]}
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) <= 6


async def test_an_alarm_blocks_publishing_only(
    own_rabbitmq: ThrowawayRabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publish ends at its deadline, the next ones at once; consuming goes on; afterwards everything does.

    What was sent before the broker said so may arrive late: at most once, since nothing is sent again.
    """
    monkeypatch.setattr(publishing, "DEADLINE", 1.0)
    key, landing = lane_key(), Landing()
    async with RabbitBroker.from_url(own_rabbitmq.url) as opened, opened.consume([key], 1, landing) as consumption:
        before = tickets_of(key, 3)
        await opened.publish(before)
        await own_rabbitmq.ctl_beside("set_vm_memory_high_watermark", "absolute", "1MB")
        late = tickets_of(key, 1)

        async def blocked() -> bool:
            try:
                await opened.publish(late)
            except BrokerUnavailable:
                return True
            late[:] = tickets_of(key, 1)
            return False

        await until(blocked)
        started = time.monotonic()
        for work in (opened.publish(tickets_of(key, 1)), opened.ping()):
            with pytest.raises(BrokerUnavailable, match="alarm"):
                await work
        assert time.monotonic() - started < 0.5

        async def drained() -> bool:
            await landing.ack()
            return set(before) <= set(landing.tickets)

        await until(drained)
        assert consumption.live
        await own_rabbitmq.ctl_beside("set_vm_memory_high_watermark", "0.6")
        after = tickets_of(key, 1)

        async def taken() -> bool:
            try:
                await opened.publish(after)
            except BrokerUnavailable:
                return False
            return True

        await until(taken)

        async def arrived() -> bool:
            await landing.ack()
            return after[0] in landing.tickets

        await until(arrived)
        await opened.ping()
        assert landing.tickets.count(late[0]) <= 1
        assert landing.tickets.count(before[0]) == 1


async def test_a_queue_without_a_leader_harms_no_other(
    own_rabbitmq: ThrowawayRabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left out for a while; the connections stay, and once it has a leader again it is used again."""
    monkeypatch.setattr(publishing, "DEADLINE", 1.0)
    monkeypatch.setattr(publishing, "MUTED", 2.0)
    silent, other, landing = lane_key(), lane_key(), Landing()
    async with RabbitBroker.from_url(own_rabbitmq.url) as opened, opened.consume([silent, other], 50, landing):
        await opened.publish([*tickets_of(silent, 1), *tickets_of(other, 1)])
        await until(lambda: len(landing.tickets) == 2)
        links = opened._publish_link.connection, opened._consume_link.connection
        await own_rabbitmq.hush(opened._topology.queue(silent))
        with pytest.raises(BrokerUnavailable):
            await opened.publish([*tickets_of(silent, 1), *tickets_of(other, 1)])
        await until(lambda: silent in opened._publishing._muted)
        started = time.monotonic()
        sent = tickets_of(other, 3)
        await opened.publish([*tickets_of(silent, 3), *sent])
        assert time.monotonic() - started < 1
        await until(lambda: set(sent) <= set(landing.tickets))
        await own_rabbitmq.hush(opened._topology.queue(silent), silent=False)
        again = tickets_of(silent, 1)

        async def arrived() -> bool:
            await opened.publish(again)
            return again[0] in landing.tickets

        await until(arrived)
        assert (opened._publish_link.connection, opened._consume_link.connection) == links


async def test_every_confirmed_ticket_arrives_over_restarts(own_rabbitmq: ThrowawayRabbitMQ) -> None:
    """Whatever falls between."""
    keys, waiting = [lane_key() for _ in range(3)], list[Delivery]()
    confirmed, arrived = set[str](), set[str]()
    ending = asyncio.Event()

    def land(delivery: Delivery) -> None:
        waiting.append(delivery)
        arrived.update(ticket.job_id for ticket in delivery.tickets)

    async with RabbitBroker.from_url(own_rabbitmq.url) as opened, opened.consume(keys, 50, land):

        async def publish() -> None:
            while not ending.is_set():
                sent = [ticket for key in keys for ticket in tickets_of(key, 5)]
                try:
                    await opened.publish(sent, share=5)
                except BrokerUnavailable:
                    continue
                confirmed.update(ticket.job_id for ticket in sent)
                # No faster than a test needs.
                await steady(lambda: True, during=0.02)

        async def ack() -> bool:
            while waiting:
                await waiting.pop().ack()
            return False

        publishing_now = asyncio.create_task(publish())
        acking = asyncio.create_task(until(ack, within=300))
        for restarts in range(3):
            goal = len(confirmed) + 300
            await until(lambda: len(confirmed) > goal, within=30)  # noqa: B023 - awaited here
            if restarts < 2:
                # In its own way: a node that is killed twice in a row may leave its young queues without a leader for good.
                await own_rabbitmq.ctl_beside("stop_app")
                await own_rabbitmq.ctl_beside("start_app")
        ending.set()
        await publishing_now
        await until(lambda: confirmed <= arrived, within=30)
        acking.cancel()
