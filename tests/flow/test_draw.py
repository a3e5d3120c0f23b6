"""The draw: how long it sleeps, and when it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from taskflow.core.job import Claim, Lane, LaneKey, RunsIn, Ticket
from taskflow.flow.claim import Claimer, Slots
from taskflow.flow.draw import AGAIN, BEHIND, BUSY, IDLE, UNLINKED, Drawer
from taskflow.flow.intake import Intake
from taskflow.ports.broker import Delivery
from taskflow.ports.store import Claims

NORMAL, SILENT = LaneKey("default", Lane.NORMAL), LaneKey("foreign", Lane.NORMAL)


class Table:
    """Answers draws with what it was given, once."""

    def __init__(self) -> None:
        self.rows: list[Claim] = []
        self.asked: list[tuple[Sequence[LaneKey], Any]] = []

    async def draw(self, worker: str, lanes: Sequence[LaneKey], *_: Any, **how: Any) -> list[Claim]:
        """All of it."""
        if not how.get("isolated"):
            self.asked.append((lanes, how["queued_before"]))
        rows, self.rows = self.rows, []
        return rows


def drawer(
    table: Table,
    *,
    linked: bool = True,
    intake: Intake | None = None,
    slots: Slots | None = None,
    freed: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Drawer:
    """A drawer of an idle worker, where it is told nothing else."""
    return Drawer(
        cast("Claims", table),
        intake or Intake(lambda: None),
        slots or Slots(lambda _: 5),
        worker=lambda: "w",
        tasks=lambda kind: ["t"] if kind is RunsIn.ASYNC else [],
        lanes=lambda: [NORMAL, SILENT],
        isolation_free=lambda: True,
        start=lambda _: None,
        linked=lambda: linked,
        freed=freed,
        clock=clock,
    )


async def test_it_backs_off_while_it_finds_nothing_and_tickets_could_come() -> None:
    """Idle workers cost the database next to nothing; a find brings the next draw at once."""
    table = Table()
    idle = drawer(table, linked=True)
    assert [await idle.once() for _ in range(4)] == [2, 4, 5, 5]
    table.rows = [cast("Claim", object())]
    assert [await idle.once() for _ in range(3)] == [0, 2, 4]


async def test_without_a_broker_the_table_is_the_queue() -> None:
    """Nobody else says that there is work."""
    assert [await drawer(Table(), linked=False).once() for _ in range(3)] == [UNLINKED] * 3


class Message:
    """A delivery of one ticket."""

    def __init__(self, at: datetime) -> None:
        self.tickets = [Ticket("j", NORMAL, RunsIn.ASYNC, at)]

    async def ack(self) -> None:
        """Nobody counts."""


async def test_a_busy_worker_looks_also_into_lanes_that_bring_no_tickets() -> None:
    """A lane whose queue is somebody else's must not starve behind one that is busy."""
    table, intake, now = Table(), Intake(lambda: None), datetime.now(UTC)
    intake.land(cast("Delivery", Message(now)))
    await drawer(table, intake=intake).once()
    assert table.asked == [([NORMAL, SILENT], dict.fromkeys((NORMAL, SILENT), now - BEHIND))]


async def test_a_worker_whose_slots_are_never_free_leaves_one_to_the_draw() -> None:
    """Tickets that come fast enough would take each slot the moment that it is free."""
    table, intake, free = Table(), Intake(lambda: None), 0
    slots = Slots(lambda _: free)
    freed: list[str] = []
    busy = drawer(table, intake=intake, slots=slots, freed=lambda: freed.append("tickets wait"))
    claimer = Claimer(
        cast("Claims", table), intake, slots, worker=lambda: "w", tasks=lambda _: ["t"], start=lambda _: None
    )
    intake.land(cast("Delivery", Message(datetime.now(UTC))))
    await busy.once()
    assert (table.asked, slots.promised) == ([], True)
    free = 1
    assert await claimer.once() > 0
    assert intake.waiting(RunsIn.ASYNC) == 1
    await busy.once()
    assert (len(table.asked), slots.promised) == (1, False)
    assert (slots.for_tickets(RunsIn.ASYNC), freed) == (1, ["tickets wait"])


async def test_a_worker_that_was_full_draws_at_once_and_not_after_each_job() -> None:
    """Others may hold what it could run; a round over everything comes as if nothing had happened."""
    table, now = Table(), 100.0
    idle = drawer(table, clock=lambda: now)
    await idle.once()
    idle.hurry(RunsIn.ASYNC)
    assert await idle.once() == pytest.approx(AGAIN)
    now += AGAIN
    table.rows = [cast("Claim", object())]
    assert (await idle.once(), idle.drawn) == (0, 1)
    assert await idle.once() == 2 * IDLE
    rounds = len(table.asked)
    for _ in range(30):
        now += 0.09
        idle.hurry(RunsIn.ASYNC)
        assert 0 <= await idle.once() <= BUSY
    assert len(table.asked) - rounds <= 30 * 0.09 / AGAIN + 1
