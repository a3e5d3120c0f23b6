"""Tickets on their way out, and how many share a message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from taskflow.core.errors import BrokerUnavailable, StoreUnavailable
from taskflow.core.job import RunsIn, Ticket
from taskflow.flow.crowd import Crowd
from taskflow.flow.publish import MOMENT, Publisher, share_of
from taskflow.ports.store import WorkerInfo
from taskflow.testing.broker import lane_key, tickets_of
from taskflow.testing.facts import until


class Sink:
    """A broker that notes what it is given, and fails when told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int]] = []
        self.error: Exception | None = None

    async def publish(self, tickets: Sequence[Ticket], *, share: int = 1) -> None:
        if self.error is not None:
            raise self.error
        self.batches.append((len(tickets), share))


class Staff:
    """Workers as a store lists them."""

    def __init__(self, *states: str) -> None:
        self.states: Sequence[str] | None = states

    async def workers(self) -> list[WorkerInfo]:
        if self.states is None:
            raise StoreUnavailable("it is down")
        return [
            WorkerInfo(
                id=str(number),
                host="h",
                pid=1,
                queues=(),
                tasks=(),
                slots={"async": 4 + number},
                lease=30.0,
                state=state,
            )
            for number, state in enumerate(self.states)
        ]


@pytest.mark.parametrize(
    ("batch", "workers", "share"),
    [
        (1, 1, 1),
        (2, 1, 1),
        (3, 1, 2),
        (128, 1, 64),
        (1_000, 1, 64),
        (1_000, 10, 50),
        (5, 10, 1),
        (1_000, 0, 63),
        (16, 0, 1),
        (0, 3, 1),
    ],
)
def test_each_live_worker_gets_two_messages_of_a_batch(batch: int, workers: int, share: int) -> None:
    """At most 64 tickets in one for workers whose slots nobody knows; where no worker is known, as if there were a few."""
    assert share_of(batch, workers) == share


@pytest.mark.parametrize(("slots", "share"), [(0, 64), (1, 1), (4, 2), (100, 50), (1_000, 256)])
def test_a_message_holds_no_more_than_half_of_what_the_smallest_worker_runs(slots: int, share: int) -> None:
    """What a worker cannot start, it keeps from others."""
    assert share_of(1_000, 1, slots) == share


async def test_small_batches_that_follow_each_other_are_shared_like_one() -> None:
    """A message for every few tickets would cost more than the jobs. After a pause each is shared for itself again."""
    now, sink = 0.0, Sink()
    publisher = Publisher(sink, workers=lambda: 2, clock=lambda: now)  # type: ignore[arg-type]
    running = asyncio.create_task(publisher.run())
    for _ in range(100):
        before = len(sink.batches)
        publisher.offer(tickets_of(lane_key(), 8))
        await until(lambda before=before: len(sink.batches) > before)  # type: ignore[misc]
        now += MOMENT / 50
    shares = [share for _, share in sink.batches]
    assert shares[:2] == [2, 4]
    assert shares[-1] == 64
    assert shares == sorted(shares)
    now += 20 * MOMENT
    publisher.offer(tickets_of(lane_key(), 8))
    await until(lambda: sink.batches[-1] == (8, 2))
    running.cancel()


async def test_a_batch_is_published_with_the_share_of_the_moment() -> None:
    """As told by whoever counts workers."""
    sink, alive, now = Sink(), 0, 0.0
    publisher = Publisher(sink, lambda: alive, clock=lambda: now)  # type: ignore[arg-type]
    running = asyncio.create_task(publisher.run())
    publisher.offer(tickets_of(lane_key(), 100))
    await until(lambda: sink.batches == [(100, 7)])
    alive, now = 5, 20 * MOMENT
    publisher.offer(tickets_of(lane_key(), 100))
    await until(lambda: sink.batches[1:] == [(100, 10)])
    running.cancel()


@pytest.mark.parametrize(
    ("error", "unknown"), [(BrokerUnavailable("it is down"), False), (ValueError("odd"), True)], ids=["outage", "odd"]
)
async def test_what_cannot_be_sent_is_forgotten(
    caplog: pytest.LogCaptureFixture, error: Exception, unknown: bool
) -> None:
    """And counted; the next batch goes out once the broker is back. An error that nobody knows is an outage like any other,
    with its reason in the log."""
    sink = Sink()
    publisher = Publisher(sink)  # type: ignore[arg-type]
    running = asyncio.create_task(publisher.run())
    sink.error = error
    publisher.offer(tickets_of(lane_key(), 3))
    await until(lambda: publisher.forgotten == 3 and not publisher.connected)
    sink.error = None
    publisher.offer(tickets_of(lane_key(), 2))
    await until(lambda: sink.batches == [(2, 1)])
    assert publisher.connected
    assert any("unknown reason" in record.message for record in caplog.records) is unknown
    running.cancel()


async def test_the_crowd_is_who_is_alive() -> None:
    """Unknown at first, and unknown again while the store cannot say."""
    staff = Staff("alive", "dead", "alive", "stopped")
    crowd = Crowd(staff)  # type: ignore[arg-type]
    assert crowd.count() == 0
    assert await crowd.once() > 0
    assert (crowd.count(), crowd.slots(RunsIn.ASYNC), crowd.slots(RunsIn.THREAD)) == (2, 4, 0)
    assert not crowd.only("0")
    staff.states = ("dead", "alive")
    await crowd.once()
    assert crowd.only("1")
    assert not crowd.only("0")
    staff.states = None
    with pytest.raises(StoreUnavailable):
        await crowd.once()
    assert crowd.count() == 0


async def test_nothing_is_taken_before_what_is_on_its_way() -> None:
    """Nor while the broker is away: older rows may wait in the table."""
    sink, asked = Sink(), 0

    def near(_: Sequence[Ticket]) -> Sequence[Ticket]:
        nonlocal asked
        asked += 1
        return ()

    publisher = Publisher(sink)  # type: ignore[arg-type]
    publisher.near = near
    publisher.offer(tickets_of(lane_key(), 1))
    assert asked == 1
    publisher.near = lambda tickets: tickets
    publisher.offer(tickets_of(lane_key(), 1))
    publisher.near = near
    publisher.offer(tickets_of(lane_key(), 1))
    assert asked == 1
    sink.error = BrokerUnavailable("it is down")
    running = asyncio.create_task(publisher.run())
    await until(lambda: not publisher.connected)
    publisher.offer(tickets_of(lane_key(), 1))
    assert asked == 1
    running.cancel()


async def test_what_is_taken_in_this_process_is_not_published() -> None:
    """Only the rest."""
    sink = Sink()
    publisher = Publisher(sink)  # type: ignore[arg-type]
    publisher.near = lambda tickets: tickets[:2]
    running = asyncio.create_task(publisher.run())
    publisher.offer(tickets_of(lane_key(), 5))
    await until(lambda: sink.batches == [(2, 1)])
    running.cancel()
