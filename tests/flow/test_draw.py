"""The draw: how long it sleeps, and when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from taskflow.core.errors import StoreUnavailable
from taskflow.core.job import Claim, Lane, LaneKey, RunsIn, Ticket
from taskflow.flow.claim import Slots
from taskflow.flow.draw import AGAIN, BEHIND, BUSY, IDLE, UNLINKED, Drawer
from taskflow.flow.intake import Intake
from taskflow.ports.broker import Delivery
from taskflow.ports.store import Claims

LANE = LaneKey("default", Lane.NORMAL)
SILENT = LaneKey("silent", Lane.NORMAL)


class Table:
    """Answers draws with rows that it was given, as many as asked for."""

    def __init__(self, rows: int = 0) -> None:
        self.rows = rows
        self.down = False
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
        if self.down:
            raise StoreUnavailable("it is down")
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
        self.running = 0
        self.unused = 0
        self.intake = Intake(lambda: None, clock=lambda: self.now)
        self.slots = Slots(lambda kind: 5 - self.running if kind is RunsIn.ASYNC else 0)
        self.drawer = Drawer(
            cast("Claims", table),
            self.intake,
            self.slots,
            worker=lambda: "w",
            tasks=lambda kind: ["t"] if kind is RunsIn.ASYNC else [],
            lanes=lambda: [LANE, SILENT],
            isolation_free=lambda: True,
            start=self._start,
            linked=lambda: linked,
            unused=self._unused,
            clock=lambda: self.now,
        )

    async def pauses(self, times: int) -> list[float]:
        """What each of some draws says, which are made when it says so."""
        found = []
        for _ in range(times):
            found.append(await self.drawer.once())
            self.now += found[-1]
        return found

    async def rings(self) -> bool:
        """Whether the drawer was woken."""
        try:
            async with asyncio.timeout(0.01):
                await self.drawer.bell.wait(60)
        except TimeoutError:
            return False
        return True

    def land(self, at: datetime, count: int = 1) -> None:
        """Tickets of one lane come."""
        tickets = [Ticket(f"j{number}", LANE, RunsIn.ASYNC, at) for number in range(count)]
        self.intake.land(cast("Delivery", SimpleNamespace(tickets=tickets, ack=None)))

    def end(self, count: int = 1) -> None:
        """Runs are over."""
        for _ in range(count):
            self.running -= 1
            self.drawer.ended(RunsIn.ASYNC)

    def _start(self, _: Claim) -> None:
        self.running += 1
        self.drawer.started(RunsIn.ASYNC)

    def _unused(self) -> None:
        self.unused += 1


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
    """Not when an idle worker would look next."""
    table = Table(rows=7)
    worker = Worker(table)
    assert await worker.drawer.once() == 0
    assert await worker.drawer.once() > 0
    worker.end(2)
    assert await worker.rings()
    assert await worker.drawer.once() == 0
    assert [limit for limit, _ in table.asked] == [5, 2]


async def test_a_free_slot_asks_nobody_where_nothing_is_known_to_wait() -> None:
    """A worker that is never full costs the table its regular looks only."""
    table = Table(rows=2)
    worker = Worker(table)
    assert (await worker.drawer.once(), await worker.drawer.once()) == (0, IDLE)
    worker.end(2)
    assert not await worker.rings()


async def test_a_busy_worker_draws_what_its_tickets_have_passed_by() -> None:
    """Also in a lane whose tickets never come: its queue may be somebody else's, and it must not starve."""
    table = Table()
    worker = Worker(table)
    front = datetime(2026, 1, 1, tzinfo=UTC)
    worker.land(front)
    await worker.drawer.once()
    [(_, behind)] = table.asked
    assert behind == dict.fromkeys((LANE, SILENT), front - BEHIND)


async def test_a_worker_whose_slots_are_never_free_leaves_one_to_the_draw() -> None:
    """Tickets that come fast enough would take each slot the moment that it is free."""
    table = Table()
    worker = Worker(table)
    worker.land(datetime.now(UTC), 3)
    worker.running = 5
    await worker.drawer.once()
    assert table.asked == []
    worker.end()
    assert (worker.slots.free(RunsIn.ASYNC), worker.slots.for_tickets(RunsIn.ASYNC)) == (1, 0)
    assert await worker.rings()
    await worker.drawer.once()
    assert len(table.asked) == 1
    assert (worker.slots.for_tickets(RunsIn.ASYNC), worker.unused) == (1, 1)


async def test_a_worker_that_was_full_and_runs_dry_looks_soon_and_not_after_each_job() -> None:
    """Others may hold what it could run."""
    table = Table()
    worker = Worker(table)
    assert await worker.drawer.once() == 2 * IDLE
    for _ in range(30):
        for _ in range(5):
            worker._start(cast("Claim", None))
        worker.end(5)
        assert await worker.rings()
        assert 0 <= await worker.drawer.once() <= BUSY
        worker.now += AGAIN * 0.9
    assert 10 < len(table.asked) <= 30 * 0.9 + 1
    table.rows = 1
    worker.now += AGAIN
    assert await worker.drawer.once() == 0


async def test_what_changed_elsewhere_is_looked_at_at_once() -> None:
    """A queue that was resumed has rows whose tickets found it paused."""
    table = Table()
    worker = Worker(table)
    await worker.pauses(3)
    table.rows = 1
    worker.drawer.look()
    assert await worker.rings()
    assert await worker.drawer.once() == 0


async def test_a_look_that_failed_is_made_again() -> None:
    """An idle worker whose database was away for a moment does not stop looking."""
    table = Table(rows=3)
    worker = Worker(table)
    table.down = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await worker.drawer.once()
    table.down = False
    assert await worker.drawer.once() == 0
    assert worker.running == 3


async def test_slots_that_a_claim_only_holds_are_not_kept_from_tickets() -> None:
    """It may come back with less."""
    worker = Worker(Table())
    worker.land(datetime.now(UTC), 3)
    worker.slots.hold(RunsIn.ASYNC, 5)
    await worker.drawer.once()
    worker.slots.release(RunsIn.ASYNC, 5)
    assert worker.slots.for_tickets(RunsIn.ASYNC) == 5
