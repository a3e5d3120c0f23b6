"""Tickets become runs, or are forgotten in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from taskflow.core.ids import new_id
from taskflow.core.job import Claim, Lane, LaneKey, RunsIn, Ticket
from taskflow.flow.claim import DRY, MANY, Claimer, Slots
from taskflow.flow.intake import HOLD, Intake
from tests.flow.fakes import Message


class Nothing:
    """Claims that find every row taken."""

    async def claim(self, worker: str, ids: Sequence[str], tasks: Sequence[str]) -> list[Claim]:
        return []


class Everything:
    """Claims that take every row."""

    async def claim(self, worker: str, ids: Sequence[str], tasks: Sequence[str]) -> list[Claim]:
        return [cast("Claim", object()) for _ in ids]


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


@pytest.mark.parametrize(("came", "told"), [(MANY, ["late"]), (MANY - 1, [])])
async def test_the_end_of_many_tickets_makes_the_draw_look(came: int, told: list[str]) -> None:
    """Of a great many jobs only the first have tickets. A pause between two messages is no end, and few are not many."""
    now = 0.0
    intake = Intake(lambda: None, clock=lambda: now)
    late: list[str] = []
    claimer = Claimer(
        Everything(),  # type: ignore[arg-type]
        intake,
        Slots(lambda kind: 1_000 if kind is RunsIn.ASYNC else 0),
        worker=lambda: "w",
        tasks=lambda _: ("t",),
        start=lambda _: None,
        late=lambda: late.append("late"),
        clock=lambda: now,
    )
    for count in (came - came // 2, came // 2):
        now += 2 * DRY
        intake.land(Message(*(ticket(RunsIn.ASYNC) for _ in range(count))))
        assert await claimer.once() == 0
        assert await claimer.once() == pytest.approx(1.0 if claimer.claimed < MANY else DRY)
        assert late == []
    now += DRY
    assert await claimer.once() == 1.0
    assert late == told
    now += DRY
    await claimer.once()
    assert late == told
