"""The draw: how long it sleeps, and when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from taskflow.core.job import Claim, Lane, LaneKey, RunsIn, Ticket
from taskflow.flow.claim import Slots
from taskflow.flow.draw import BEHIND, NEVER, UNLINKED, Drawer
from taskflow.flow.intake import Intake
from taskflow.ports.broker import Delivery
from taskflow.ports.store import Claims

LANE = LaneKey("default", Lane.NORMAL)
OTHER = LaneKey("other", Lane.NORMAL)


class Table:
    """Answers draws with rows that it was given, as many as asked for."""

    def __init__(self, rows: int = 0) -> None:
        self.rows = rows
        self.asked: list[tuple[int, Mapping[LaneKey, datetime] | None]] = []

    async def draw(
        self,
        worker: str,
        lanes: Sequence[LaneKey],
        tasks: Sequence[str],
        limit: int,
        *,
        queued_before: Mapping[LaneKey, datetime] | None = None,
        isolated: bool = False,
    ) -> list[Claim]:
        """The next rows."""
        if isolated:
            return []
        self.asked.append((limit, queued_before))
        found = min(limit, self.rows)
        self.rows -= found
        return [cast("Claim", object())] * found


class Worker:
    """A drawer of a worker with five slots, on a clock that stands still."""

    def __init__(self, table: Table, *, linked: bool = True) -> None:
        self.now = 100.0
        self.started = 0
        self.intake = Intake(lambda: None)
        self.drawer = Drawer(
            cast("Claims", table),
            self.intake,
            Slots(lambda kind: 5 - self.started if kind is RunsIn.ASYNC else 0),
            worker=lambda: "w",
            tasks=lambda kind: ["t"] if kind is RunsIn.ASYNC else [],
            lanes=lambda: [LANE, OTHER],
            isolation_free=lambda: True,
            start=self._start,
            linked=lambda: linked,
            clock=lambda: self.now,
        )

    async def pauses(self, times: int) -> list[float]:
        """What each of some draws says, which are made when it says so."""
        found = []
        for _ in range(times):
            found.append(await self.drawer.once())
            self.now += found[-1]
        return found

    def _start(self, _: Claim) -> None:
        self.started += 1


async def test_it_backs_off_while_it_finds_nothing_and_tickets_could_come() -> None:
    """Idle workers cost the database next to nothing; a find brings the next draw at once."""
    table = Table()
    worker = Worker(table)
    assert await worker.pauses(4) == [2, 4, 5, 5]
    table.rows = 1
    assert await worker.pauses(4) == [0, 1, 2, 4]


async def test_without_a_broker_the_table_is_the_queue() -> None:
    """Nobody else says that there is work."""
    assert await Worker(Table(), linked=False).pauses(3) == [UNLINKED] * 3


async def test_what_did_not_fit_is_drawn_when_a_slot_is_free() -> None:
    """Not when an idle worker would look next; and where nothing is known to wait, a free slot asks nobody."""
    table = Table(rows=7)
    worker = Worker(table)
    assert await worker.drawer.once() == 0
    assert await worker.drawer.once() > 0
    worker.started -= 2
    worker.drawer.freed()
    await asyncio.wait_for(worker.drawer.bell.wait(60), 1)
    assert await worker.drawer.once() == 0
    assert [limit for limit, _ in table.asked] == [5, 2]
    worker.started = 0
    await worker.drawer.once()
    worker.drawer.freed()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(worker.drawer.bell.wait(60), 0.01)


async def test_a_busy_worker_draws_what_its_tickets_have_passed_by() -> None:
    """Behind the front of a lane, and anything in a lane that brings no tickets at all."""
    table = Table()
    worker = Worker(table)
    front = datetime(2026, 1, 1, tzinfo=UTC)
    ticket = Ticket("j", LANE, RunsIn.ASYNC, front)
    worker.intake.land(cast("Delivery", SimpleNamespace(tickets=[ticket])))
    await worker.drawer.once()
    [(_, behind)] = table.asked
    assert behind == {LANE: front - BEHIND, OTHER: NEVER}
