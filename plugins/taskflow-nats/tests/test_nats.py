"""Tickets over a real NATS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from taskflow_nats import NatsBroker, link

from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import Lane, LaneKey
from taskflow.ports.broker import Broker, Inspectable, LaneStanding
from taskflow.testing.broker import BrokerSuite, Landing, lane_key, tickets_of
from taskflow.testing.facts import steady, until
from taskflow.wiring import plugins
from tests.throwaway import ThrowawayNats

pytestmark = pytest.mark.adapter("nats")


class TestNatsBroker(BrokerSuite):
    """The contract, which RabbitMQ and memory keep, too."""

    @pytest.fixture
    def broker(self, nats_broker: NatsBroker) -> Broker:
        """An opened one."""
        return nats_broker


@pytest.fixture
async def broker(own_nats: ThrowawayNats) -> AsyncIterator[NatsBroker]:
    """One on a server that the test may stop."""
    async with NatsBroker.from_url(own_nats.url) as opened:
        yield opened


def test_the_scheme_of_the_url_chooses_it() -> None:
    """It was installed: that is all that is to do."""
    assert "nats" in plugins.schemes("broker")
    assert isinstance(plugins.adapter("broker", "nats://127.0.0.1", namespace="n"), NatsBroker)


async def test_a_full_lane_leaves_room_for_a_higher_one(nats_broker: NatsBroker) -> None:
    """A low backlog is served, and high jobs more often."""
    high, low, landing = LaneKey(lane_key().queue, Lane.HIGH), lane_key(Lane.LOW), Landing()
    async with nats_broker.consume([high, low], 20, landing):
        await nats_broker.publish([*tickets_of(low, 300), *tickets_of(high, 300)])

        async def served() -> bool:
            for delivery in landing.deliveries[:]:
                await delivery.ack()
            return len(landing.tickets) >= 300

        await until(served)
    lanes = [ticket.lane for ticket in landing.tickets]
    assert lanes.count(high) > lanes.count(low) > 0


async def test_a_lane_that_had_its_tickets_keeps_no_room_from_another(nats_broker: NatsBroker) -> None:
    """Nor does it while nobody acks what came, and whatever it may still ask for."""
    first, second, landing = lane_key(), lane_key(), Landing()
    async with nats_broker.consume([first, second], 100, landing):
        for size in (3, 4):
            await nats_broker.publish(tickets_of(first, size), share=4)
        await until(lambda: len(landing.tickets) == 7)
        await nats_broker.publish(tickets_of(second, 60), share=4)
        await until(lambda: len(landing.tickets) == 67)


@pytest.mark.parametrize("sizes", [(1, 8), (8, 1), (40, 1), (1, 40)])
async def test_messages_of_any_size_keep_within_the_prefetch(nats_broker: NatsBroker, sizes: tuple[int, int]) -> None:
    """Whatever was seen before; one that is larger than all of it comes alone."""
    key, landing = lane_key(), Landing()
    most = 0
    async with nats_broker.consume([key], 20, landing):
        for size in sizes * 4:
            await nats_broker.publish(tickets_of(key, 40), share=size)

        async def drained() -> bool:
            nonlocal most
            held = [delivery for delivery in landing.deliveries if delivery.tickets not in acked]
            most = max(most, sum(len(delivery.tickets) for delivery in held))
            if held:
                acked.append(held[0].tickets)
                await held[0].ack()
            return len(landing.tickets) == 320

        acked: list[object] = []
        await until(drained)
    assert most <= max(20, *sizes)


async def test_names_with_dots_and_colons(nats_broker: NatsBroker) -> None:
    """NATS has its own mind about them."""
    landing = Landing()
    lanes = [LaneKey(f"{name}-{lane_key().queue}", Lane.HIGH) for name in (".", "a..b", "a:b.", "x=y"[:1], "A" * 80)]
    sent = [ticket for lane in lanes for ticket in tickets_of(lane, 1)]
    async with nats_broker.consume(lanes, 100, landing):
        await nats_broker.publish(sent)
        await until(lambda: sorted(landing.tickets) == sorted(sent))


@pytest.mark.parametrize("body", [b"", b"1", b"2\n", b"1\nx a 1", b"1\n" + b"\xff" * 55])
async def test_what_cannot_be_read_goes_to_the_dead_stream(nats_broker: NatsBroker, body: bytes) -> None:
    """A newer version, too; the consumer goes on with the next one."""
    key, landing = lane_key(), Landing()
    assert isinstance(nats_broker, Inspectable)
    assert await nats_broker.dead() == 0
    await nats_broker.publish(tickets_of(key, 1))
    session = nats_broker._link.session
    assert session is not None
    await session.js.publish(nats_broker._streams.names.subject(key), body)
    await nats_broker.publish(tickets_of(key, 1))

    async def buried() -> bool:
        return await nats_broker.dead() == 1

    async with nats_broker.consume([key], 10, landing):
        await until(lambda: len(landing.tickets) == 2)
        await until(buried)
    kept = await session.js.get_last_msg(nats_broker._streams.names.dead, nats_broker._streams.names.dead_subject)
    assert (kept.data or b"") == body


async def test_how_a_lane_stands(nats_broker: NatsBroker) -> None:
    """For whoever checks a deployment: what waits, and who asks for it."""
    key = lane_key()
    assert await nats_broker.standing(key) is None
    async with nats_broker.consume([key], 10, Landing()):

        async def asks() -> bool:
            return await nats_broker.standing(key) == LaneStanding(ready=0, consumers=1)

        await until(asks)

    async def waits() -> bool:
        return await nats_broker.standing(key) == LaneStanding(ready=2, consumers=0)

    await nats_broker.publish(tickets_of(key, 2))
    await until(waits)


@pytest.mark.parametrize("what", ["consumer", "stream"])
async def test_what_somebody_deletes_is_made_again(nats_broker: NatsBroker, what: str) -> None:
    """NATS says so to whoever is asking."""
    key, landing = lane_key(), Landing()
    names, session = nats_broker._streams.names, nats_broker._link.session
    assert session is not None
    async with nats_broker.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        if what == "consumer":
            await session.js.delete_consumer(names.stream, names.consumer(key))
        else:
            await session.js.delete_stream(names.stream)

        async def lands() -> bool:
            try:
                await nats_broker.publish(tickets_of(key, 1))
            except BrokerUnavailable:
                pass
            return bool(landing.tickets)

        await until(lands)


async def test_a_restart_is_survived(
    broker: NatsBroker, own_nats: ThrowawayNats, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once that NATS is lost and once that it is back; tickets that were not acked come again."""
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 10, landing) as consumption:
        await broker.publish(tickets_of(key, 3))
        await until(lambda: len(landing.tickets) == 3)
        own_nats.kill()
        await until(lambda: not consumption.live)
        await landing.ack()
        await own_nats.start_beside()
        await until(lambda: consumption.live)
        await broker.publish(tickets_of(key, 2))
        await until(lambda: len(landing.tickets) >= 5)
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert [message.split(":")[0] for message in told] == ["NATS lost", told[-1].split(":")[0]]
    assert told[-1].startswith("NATS is back")


async def test_one_that_is_not_there_yet_keeps_nobody_waiting(
    own_nats: ThrowawayNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consumers are subscribed, and publishes succeed, once it is there."""
    monkeypatch.setattr(link, "GREET", 0.1)
    own_nats.stop()
    key, landing = lane_key(), Landing()
    async with NatsBroker.from_url(own_nats.url) as broker, broker.consume([key], 10, landing) as consumption:
        assert not consumption.live
        await own_nats.start_beside()
        await until(lambda: consumption.live)
        sent = tickets_of(key, 2)
        await broker.publish(sent)
        await until(lambda: landing.tickets == sent)


async def test_one_that_falls_silent_is_given_up(broker: NatsBroker, own_nats: ThrowawayNats) -> None:
    """A publish ends in its time, and the connection with it; later all goes on."""
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 10, landing) as consumption:
        await until(lambda: consumption.live)
        own_nats.pause()
        try:
            with pytest.raises(BrokerUnavailable):
                async with asyncio.timeout(10):
                    await broker.publish(tickets_of(key, 1))
            await until(lambda: not consumption.live)
        finally:
            own_nats.go_on()
        await until(lambda: consumption.live)
        await broker.publish(tickets_of(key, 1))
        await until(lambda: landing.tickets)


async def test_a_lane_that_is_dropped_beside_a_silent_server_takes_nobody_along(
    broker: NatsBroker, own_nats: ThrowawayNats
) -> None:
    """What the driver waits for is not cut short: its late answer would end the connection's reading."""
    kept, dropped, landing = lane_key(), lane_key(), Landing()
    async with broker.consume([kept, dropped], 10, landing) as consumption:
        await until(lambda: consumption.live)
        own_nats.pause()
        leaving = asyncio.create_task(consumption.follow([kept]))
        await asyncio.wait({leaving}, timeout=0.3)
        leaving.cancel()
        own_nats.go_on()
        await asyncio.wait({leaving})
        await broker.publish(tickets_of(kept, 1))
        await until(lambda: landing.tickets, 5)


async def test_kills_while_acks_fly_end_every_session(broker: NatsBroker, own_nats: ThrowawayNats) -> None:
    """The driver does not tell of every end."""
    key, landing = lane_key(), Landing()
    async with broker.consume([key], 50, landing) as consumption:
        for _ in range(4):
            await broker.publish(tickets_of(key, 100))
            before = len(landing.tickets)
            acking = asyncio.create_task(_acked(landing))
            await until(lambda before=before: len(landing.tickets) > before)  # type: ignore[misc]
            own_nats.kill()
            await until(lambda: not consumption.live)
            await own_nats.start_beside()
            await until(lambda: consumption.live)
            acking.cancel()


async def _acked(landing: Landing) -> None:
    while True:
        for delivery in landing.deliveries[:]:
            await delivery.ack()
        await steady(lambda: True, 0.001)


async def test_a_password_is_told_to_nobody_in_the_clear() -> None:
    """Where TLS was asked for and the server has none, it hears nothing."""
    heard: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.9.0","headers":true,"max_payload":1048576}\r\n')
        heard.append(await reader.read(1_000))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, NatsBroker.from_url(f"nats://u:hunter2@127.0.0.1:{port}?tls=true") as broker:
        await until(lambda: heard)
        with pytest.raises(BrokerUnavailable, match="does not ask for TLS"):
            await broker.ping()
    assert b"hunter2" not in b"".join(heard)


async def test_a_stream_of_somebody_else_is_left_alone(
    own_nats: ThrowawayNats, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the reason is told."""
    monkeypatch.setattr(link, "GREET", 1.0)
    async with NatsBroker.from_url(own_nats.url, namespace="a") as mine:
        session = mine._link.session
        assert session is not None
        await session.js.add_stream(name="taskflow-b-v1", subjects=["theirs"])
        async with NatsBroker.from_url(own_nats.url, namespace="b") as broker:
            with pytest.raises(BrokerUnavailable):
                await broker.ping()
        assert (await session.js.stream_info("taskflow-b-v1")).config.subjects == ["theirs"]
    assert "taskflow-b-v1 is not TaskFlow's" in caplog.text


async def test_a_consumer_that_ends_leaves_no_request_behind(nats_broker: NatsBroker) -> None:
    """A ticket that was sent to it would wait for 30 s."""
    key, first, second = lane_key(), Landing(), Landing()
    async with nats_broker.consume([key], 10, first):
        await nats_broker.publish(tickets_of(key, 1))
        await until(lambda: first.tickets)
        await first.ack()
    sent = tickets_of(key, 20)
    await nats_broker.publish(sent)
    await steady(lambda: len(first.tickets) == 1)
    async with nats_broker.consume([key], 100, second):
        await until(lambda: second.tickets == sent, 3)
