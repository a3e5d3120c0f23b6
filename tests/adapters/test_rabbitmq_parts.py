"""The parts of the RabbitMQ adapter that need no RabbitMQ."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from aiormq import spec
from aiormq.exceptions import (
    AMQPConnectionError,
    ChannelInvalidStateError,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)
from hypothesis import given
from hypothesis import strategies as st

from taskflow.adapters.rabbitmq import RabbitBroker, calls, window
from taskflow.adapters.rabbitmq.address import named
from taskflow.adapters.rabbitmq.calls import BrokerLost, BrokerSilent, ForeignQueue, call
from taskflow.adapters.rabbitmq.publishing import packed
from taskflow.adapters.rabbitmq.topology import Topology
from taskflow.adapters.rabbitmq.wire import Unreadable, decode, encode
from taskflow.core.ids import new_id
from taskflow.core.job import Lane, LaneKey, RunsIn, Ticket
from taskflow.core.limits import TICKETS_SHARED
from taskflow.testing.broker import lane_key, tickets_of
from taskflow.testing.facts import until
from taskflow.wiring.plugins import adapter

LANE = LaneKey("default", Lane.NORMAL)
instants = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))]))


@given(st.lists(st.tuples(st.uuids(), st.sampled_from(RunsIn), instants), min_size=1, max_size=64))
def test_what_is_written_is_read(rows: list[tuple[Any, RunsIn, datetime]]) -> None:
    """Every ticket, to the microsecond, in 25 bytes each."""
    tickets = tuple(Ticket(str(job), LANE, kind, at) for job, kind, at in rows)
    body = encode(tickets)
    assert len(body) == 1 + 25 * len(tickets)
    assert decode(body, LANE) == tickets


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """By one kind of error."""
    try:
        decode(body, LANE)
    except Unreadable:
        pass


def test_a_newer_version_is_refused() -> None:
    """Whatever follows: its meaning is not known here."""
    body = encode([Ticket(new_id(), LANE, RunsIn.ASYNC, datetime.now(UTC))])
    with pytest.raises(Unreadable, match="version is 2"):
        decode(b"\x02" + body[1:], LANE)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://h/", "amqp://user"),
        ("amqp://", "amqp://user"),
        ("amqp://h:many/", "amqp://user"),
        ("amqp://h/a/b", "%2F"),
        ("amqp://u:p#x@h/", "percent-encoded"),
        ("amqp://h/?heartbeet=3", "heartbeat"),
        ("amqp://h/?heartbeat=0", "from 1 to 600"),
    ],
)
def test_a_wrong_url_says_what_to_write(url: str, says: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ValueError, match=says.replace("%", "%")):
        RabbitBroker.from_url(url)


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_both_schemes_are_served(scheme: str) -> None:
    """By the entry points, with what wiring passes."""
    made = adapter("broker", f"{scheme}://u:p%40ss%2Fword@h/%2Fvhost?cafile=/ca.pem", namespace="n", access_key="x")
    assert isinstance(made, RabbitBroker)


def test_connections_are_named_and_beat() -> None:
    """So that an operator sees which is which; what the user chose stays."""
    assert named("amqp://u:p%40@h/v", "publish") == "amqp://u:p%40@h/v?heartbeat=10&name=taskflow+publish"
    assert "heartbeat=3&name=mine+consume" in named("amqp://h/?heartbeat=3&name=mine", "consume")


def test_queues_are_named_after_namespace_queue_lane_and_version() -> None:
    """Names that programs outside may rely on."""
    topology = Topology("taskflow")
    assert topology.queue(LANE) == "taskflow.default.normal.v1"
    assert topology.dead == "taskflow.dead.v1"


def test_packing_keeps_each_lane_in_order() -> None:
    """And never lets lanes share a message."""
    one, other = lane_key(), lane_key()
    mixed = [ticket for pair in zip(tickets_of(one, 7), tickets_of(other, 7), strict=True) for ticket in pair]
    messages = packed(mixed, 3)
    for lane in (one, other):
        mine = [message for message in messages if message.lane == lane]
        assert [len(decode(message.body, lane)) for message in mine] == [3, 3, 1]
        read = [ticket for message in mine for ticket in decode(message.body, lane)]
        assert read == [ticket for ticket in mixed if ticket.lane == lane]


async def test_a_cancellation_that_nobody_asked_for_is_a_lost_link() -> None:
    """The driver cancels pending awaits when heartbeats stop; a task of ours must not end by that."""

    async def heartbeat_lost() -> None:
        raise asyncio.CancelledError

    with pytest.raises(BrokerLost):
        await call(heartbeat_lost())


async def test_our_own_cancellation_passes_and_leaves_the_call_alone() -> None:
    """A call of the driver that is cancelled would close its channel."""
    going, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await going.wait()
        ended.set()

    task = asyncio.create_task(call(work()))
    await asyncio.wait({task}, timeout=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    going.set()
    await until(ended.is_set)


async def test_a_call_without_an_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose own timeout the driver forgets."""
    monkeypatch.setattr(calls, "GRACE", 0.01)
    with pytest.raises(BrokerSilent):
        await call(asyncio.Event().wait(), 0.01)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (AMQPConnectionError("reset"), BrokerLost),
        (ChannelInvalidStateError("closed"), BrokerLost),
        (RuntimeError("closed"), BrokerLost),
        (OSError("no route"), BrokerLost),
        (TimeoutError(), BrokerSilent),
        (ChannelPreconditionFailed("406"), ForeignQueue),
    ],
)
async def test_errors_of_the_driver_become_ours(error: Exception, ours: type[Exception]) -> None:
    """Whatever their base classes are."""

    async def work() -> None:
        raise error

    with pytest.raises(ours):
        await call(work())


def test_a_return_is_a_delivery_error() -> None:
    """So it must be caught before the refusals: the order in `Publishing` depends on it."""
    assert issubclass(PublishError, DeliveryError)
    assert spec.Basic.Properties(message_id="x").message_id == "x"


@given(
    st.integers(1, 500),
    st.sets(st.builds(LaneKey, st.sampled_from("abcdef"), st.sampled_from(Lane)), min_size=1),
    st.data(),
)
def test_budgets_of_lanes_in_use_fit_the_prefetch(prefetch: int, lanes: set[LaneKey], data: st.DataObject) -> None:
    """Each lane has at least one; all together have no more than the prefetch, where it has one for each."""
    active = data.draw(st.sets(st.sampled_from(sorted(lanes))))
    budgets = {lane: window.budget(lane, lanes, active, prefetch) for lane in active}
    assert all(tickets >= 1 for tickets in budgets.values())
    idle = len(lanes) - len(active)
    assert sum(budgets.values()) + idle <= max(prefetch, len(lanes))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 300), st.booleans())
def test_a_changed_window_never_passes_its_target(size: int, unacked: int, target: int, full: bool) -> None:
    """What is out already counts."""
    changed = window.changed(size, unacked, target, full=full)
    assert changed is None or changed + unacked <= max(target, unacked)


@given(st.integers(1, 20_000))
def test_a_first_window_fits_its_part_however_large_the_messages_are(tickets: int) -> None:
    """But for the two that show whether more wait."""
    assert 1 <= (messages := window.first(tickets)) <= tickets
    assert messages <= 2 or messages * TICKETS_SHARED <= tickets


def test_pauses_are_clamped_and_jittered() -> None:
    """Also after years of failures."""
    assert all(0.02 < calls.pause(1) <= 0.05 for _ in range(50))
    assert all(1.5 <= calls.pause(failures) <= 3.0 for failures in (10, 10_000))
