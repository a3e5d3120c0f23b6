"""Tickets become runs, or are forgotten in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from taskflow.core.errors import StoreUnavailable
from taskflow.core.ids import new_id
from taskflow.core.job import Claim, Lane, LaneKey, RunsIn, Ticket
from taskflow.flow.claim import DRY, MANY, Claimer, Slots
from taskflow.flow.intake import HOLD, Intake
from tests.flow.fakes import Message
from tests.support import until

HIGH, LANE, LOW = (LaneKey("default", lane) for lane in Lane)


class Nothing:
    """Claims that find every row taken."""

    async def claim(self, worker: str, ids: Sequence[str], tasks: Sequence[str]) -> list[Claim]:
        return []


class Everything:
    """Claims that take every row."""

    async def claim(self, worker: str, ids: Sequence[str], tasks: Sequence[str]) -> list[Claim]:
        return [cast("Claim", object()) for _ in ids]


def ticket(kind: RunsIn, lane: LaneKey = LANE) -> Ticket:
    return Ticket(new_id(), lane, kind, datetime.now(UTC))


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
        now += DRY / 2
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


class House:
    """A claimer with three slots for async handlers, whose claims wait for `gate`."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.down = False
        self.asked: list[list[str]] = []
        self.began = self.late = 0
        self.intake = Intake(lambda: None)
        self.slots = Slots(lambda kind: 3 - self.began if kind is RunsIn.ASYNC else 0)
        self.claimer = Claimer(
            self,  # type: ignore[arg-type]
            self.intake,
            self.slots,
            worker=lambda: "w",
            tasks=lambda _: ("t",),
            start=self._start,
            late=self._late,
        )

    async def claim(self, worker: str, ids: Sequence[str], tasks: Sequence[str]) -> list[Claim]:
        self.asked.append(list(ids))
        await self.gate.wait()
        if self.down:
            raise StoreUnavailable("it is down")
        return [cast("Claim", object()) for _ in ids]

    def _start(self, _: Claim) -> None:
        self.began += 1

    def _late(self) -> None:
        self.late += 1


async def test_what_was_queued_in_this_process_is_claimed_at_once_as_far_as_slots_are_free() -> None:
    """The rest is for the broker; and so is all of it while a claim holds the slots."""
    house = House()
    house.gate.clear()
    tickets = [ticket(RunsIn.ASYNC), ticket(RunsIn.THREAD), *(ticket(RunsIn.ASYNC) for _ in range(3))]
    assert house.claimer.take(tickets, [LANE]) == [tickets[1], tickets[4]]
    assert house.claimer.take(tickets, [LANE]) == tickets
    house.gate.set()
    await until(lambda: house.began == 3)
    assert house.asked == [[tickets[0].job_id, tickets[2].job_id, tickets[3].job_id]]
    assert (house.claimer.near, house.claimer.claimed, house.late) == (3, 0, 0)
    house.began = 0
    assert house.slots.free(RunsIn.ASYNC) == 3


async def test_what_was_queued_in_this_process_begins_with_the_most_urgent() -> None:
    """Whatever came first in a batch; within a lane, what came first."""
    house = House()
    tickets = [ticket(RunsIn.ASYNC, lane) for lane in (LOW, LOW, HIGH, LOW, HIGH)]
    assert house.claimer.take(tickets, [HIGH, LOW]) == [tickets[1], tickets[3]]
    await until(lambda: house.began == 3)
    assert house.asked == [[tickets[2].job_id, tickets[4].job_id, tickets[0].job_id]]


async def test_what_was_queued_in_this_process_comes_after_what_waits() -> None:
    """First in, first out; and another lane may be paused, or not this worker's at all."""
    house, mine = House(), [ticket(RunsIn.ASYNC)]
    assert house.claimer.take(mine, [LaneKey("other", Lane.NORMAL)]) == mine
    house.intake.land(Message(ticket(RunsIn.ASYNC)))
    assert house.claimer.take(mine, [LANE]) == mine


async def test_a_claim_in_this_process_that_fails_is_left_to_the_draw() -> None:
    """Nobody has another ticket for it: the draw looks soon, and the slots are free again."""
    house = House()
    house.down = True
    assert house.claimer.take([ticket(RunsIn.ASYNC)], [LANE]) == []
    await until(lambda: house.late)
    assert house.slots.free(RunsIn.ASYNC) == 3
