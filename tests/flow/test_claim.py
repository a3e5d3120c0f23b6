"""Tickets become runs, or are forgotten in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from taskflow.core.ids import new_id
from taskflow.core.job import Claim, Lane, LaneKey, RunsIn, Ticket
from taskflow.flow.claim import Claimer, Slots
from taskflow.flow.intake import HOLD, Intake
from tests.flow.fakes import Message


class Nothing:
    """Claims that find every row taken."""

    async def claim(self, worker: str, ids: Sequence[str], tasks: Sequence[str]) -> list[Claim]:
        return []


def ticket(kind: RunsIn) -> Ticket:
    return Ticket(new_id(), LaneKey("default", Lane.NORMAL), kind, datetime.now(UTC))


async def test_a_busy_kind_does_not_keep_the_tickets_of_a_full_one() -> None:
    """They are forgotten after their time, also where claims of the other never pause; a shared message is acked then."""
    now = 0.0
    intake = Intake(lambda: None, clock=lambda: now)
    slots = Slots(lambda kind: 10 if kind is RunsIn.ASYNC else 0)
    claimer = Claimer(
        Nothing(),  # type: ignore[arg-type]
        intake,
        slots,
        worker=lambda: "w",
        tasks=lambda _: ("t",),
        start=lambda _: None,
    )
    shared = Message(ticket(RunsIn.THREAD), ticket(RunsIn.ASYNC), ticket(RunsIn.THREAD))
    intake.land(shared)
    assert await claimer.once() == 0
    assert shared.acks == 0
    now = HOLD + 1
    intake.land(Message(ticket(RunsIn.ASYNC)))
    assert await claimer.once() == 0
    assert shared.acks == 1


async def test_tickets_that_came_too_late_make_the_draw_look() -> None:
    """Their rows were drawn by another worker: the slots are free, and who drew has perhaps more than it can run."""
    intake = Intake(lambda: None)
    late: list[str] = []
    claimer = Claimer(
        Nothing(),  # type: ignore[arg-type]
        intake,
        Slots(lambda _: 1),
        worker=lambda: "w",
        tasks=lambda _: ("t",),
        start=lambda _: None,
        late=lambda: late.append("late"),
    )
    intake.land(Message(ticket(RunsIn.ASYNC)))
    intake.land(Message(ticket(RunsIn.ASYNC)))
    await claimer.once()
    assert late == []
    await claimer.once()
    assert late == ["late"]


@pytest.mark.parametrize(("tickets", "told"), [(3, [RunsIn.ASYNC]), (2, [])])
async def test_more_tickets_than_free_slots_are_a_crowd(tickets: int, told: list[RunsIn]) -> None:
    """Where they end, the table may have more: not every job of a great many has a ticket."""
    intake = Intake(lambda: None)
    crowded: list[RunsIn] = []
    claimer = Claimer(
        Nothing(),  # type: ignore[arg-type]
        intake,
        Slots(lambda _: 2),
        worker=lambda: "w",
        tasks=lambda _: ("t",),
        start=lambda _: None,
        crowded=crowded.append,
    )
    intake.land(Message(*(ticket(RunsIn.ASYNC) for _ in range(tickets))))
    await claimer.once()
    assert crowded == told
