"""The buffer between broker and claim."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from taskflow.core.job import Lane, LaneKey, RunsIn, Ticket
from taskflow.flow.intake import HOLD, Intake
from tests.flow.fakes import Message

LANE = LaneKey("default", Lane.NORMAL)
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def ticket(name: str, kind: RunsIn = RunsIn.ASYNC, second: int = 0) -> Ticket:
    return Ticket(name, LANE, kind, T0 + timedelta(seconds=second))


async def test_a_message_is_acked_once_its_last_ticket_is_used() -> None:
    """Tickets may share a message, also across kinds of slots."""
    message = Message(ticket("a"), ticket("b", RunsIn.THREAD))
    intake = Intake(lambda: None)
    intake.land(message)
    [(_, parcel)] = intake.take(RunsIn.ASYNC, 10)
    await parcel.used()
    assert message.acks == 0
    [(_, parcel)] = intake.take(RunsIn.THREAD, 10)
    await parcel.used()
    assert message.acks == 1


async def test_a_ticket_that_finds_no_slot_is_forgotten() -> None:
    """No delivery is ever old."""
    now = 0.0
    intake = Intake(lambda: None, clock=lambda: now)
    message = Message(ticket("a"))
    intake.land(message)
    now = HOLD - 1
    assert await intake.forget_stale() == 0
    now = HOLD
    assert await intake.forget_stale() == 1
    assert message.acks == 1
    assert intake.waiting(RunsIn.ASYNC) == 0


def test_how_long_the_oldest_ticket_waits_is_known() -> None:
    """By kind of slot: only what could run shows that nothing is claimed."""
    now = 5.0
    intake = Intake(lambda: None, clock=lambda: now)
    intake.land(Message(ticket("a")))
    now = 7.0
    intake.land(Message(ticket("b")))
    assert (intake.age(RunsIn.ASYNC), intake.age(RunsIn.THREAD)) == (2.0, 0.0)
    intake.take(RunsIn.ASYNC, 2)
    assert intake.age(RunsIn.ASYNC) == 0.0


def test_the_front_is_the_newest_ticket_of_a_lane() -> None:
    """What a busy worker's draw compares with."""
    intake = Intake(lambda: None)
    intake.land(Message(ticket("b", second=9)))
    intake.land(Message(ticket("a", second=3)))
    assert intake.fronts == {LANE: T0 + timedelta(seconds=9)}


def test_a_lane_that_brings_nothing_is_measured_by_the_others() -> None:
    """Its queue may be somebody else's: its rows must not wait for tickets that never come."""
    now = 0.0
    intake = Intake(lambda: None, clock=lambda: now)
    silent = LaneKey("other", Lane.NORMAL)
    assert intake.fronts_of([LANE, silent]) == {}
    intake.land(Message(ticket("a", second=3)))
    assert intake.fronts_of([LANE, silent]) == dict.fromkeys((LANE, silent), T0 + timedelta(seconds=3))
    now = HOLD + 1
    intake.land(Message(Ticket("b", silent, RunsIn.ASYNC, T0 + timedelta(seconds=14))))
    assert intake.fronts_of([LANE, silent]) == dict.fromkeys((LANE, silent), T0 + timedelta(seconds=14))
    intake.land(Message(ticket("c", second=7)))
    assert intake.fronts_of([LANE])[LANE] == T0 + timedelta(seconds=7)
