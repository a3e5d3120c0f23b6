"""Claim: as many tickets as slots are free, in one statement; those of the broker are acked whatever it said."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from taskflow.core.job import Claim, Lane, LaneKey, RunsIn, Ticket
from taskflow.flow.intake import Intake
from taskflow.flow.loops import Bell
from taskflow.ports.store import Claims

BATCH: Final = 500
MANY: Final = 100
"""Tickets after whose end the table may have more: of a great many jobs only the first have tickets."""
DRY: Final = 0.05
"""Seconds without a ticket that are no pause between two messages."""

log = logging.getLogger("taskflow")


class Slots:
    """How many runs of each kind may still start; a claim in flight holds the slots it may need.

    Args:
        free: slots of a kind that no run holds and whose run would begin soon.

    Attributes:
        closed: no more runs are begun: the worker ends.
        fenced: nor now: the worker may be thought dead.
    """

    def __init__(self, free: Callable[[RunsIn], int]) -> None:
        self._free = free
        self._held: dict[RunsIn, int] = dict.fromkeys(RunsIn, 0)
        self._promised: set[RunsIn] = set()
        self.closed = False
        self.fenced = False

    @property
    def open(self) -> bool:
        """Whether runs may begin at all."""
        return not (self.closed or self.fenced)

    def free(self, kind: RunsIn) -> int:
        """Slots that a claim may use now."""
        return max(0, self._free(kind) - self._held[kind]) if self.open else 0

    def full(self, kind: RunsIn) -> bool:
        """Whether runs have all of them, or all that would begin soon."""
        return self._free(kind) <= 0

    def for_tickets(self, kind: RunsIn) -> int:
        """Slots that a claim by ticket may use now: the draw's own is not among them."""
        return max(0, self.free(kind) - (kind in self._promised))

    def promise(self, kind: RunsIn, *, wanted: bool) -> None:
        """Keep the next free slot for the draw: tickets that come fast enough would never leave it one."""
        (self._promised.add if wanted else self._promised.discard)(kind)

    def hold(self, kind: RunsIn, count: int) -> None:
        """Keep slots for a claim in flight."""
        self._held[kind] += count

    def release(self, kind: RunsIn, count: int) -> None:
        """The claim is answered."""
        self._held[kind] -= count


class Claimer:
    """Turns tickets into runs.

    Args:
        worker: this worker's present id.
        tasks: names of the tasks of a kind that this worker has.
        start: begins a run.
        late: told that no more tickets wait though slots are free: the last were for nothing, or many came before.
        clock: seconds, monotonic.

    Attributes:
        claimed: rows claimed by ticket of the broker.
        near: and by one of this very process.
        background: claims in flight for those.
        told: whether the log says that tickets come; reset where it says that none do.
    """

    def __init__(
        self,
        claims: Claims,
        intake: Intake,
        slots: Slots,
        *,
        worker: Callable[[], str],
        tasks: Callable[[RunsIn], Sequence[str]],
        start: Callable[[Claim], None],
        late: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._intake = intake
        self._slots = slots
        self._worker = worker
        self._tasks = tasks
        self._start = start
        self._late = late
        self._clock = clock
        self._row = 0
        self._last = 0.0
        self.bell = Bell()
        self.claimed = self.near = 0
        self.told = False
        self.background: set[asyncio.Task[None]] = set()

    async def once(self) -> float:
        """Claim what can be claimed now.

        Returns:
            Seconds until the next look, unless the bell rings.
        """
        again = False
        for kind in RunsIn:
            count = min(BATCH, self._slots.for_tickets(kind), self._intake.waiting(kind))
            if count:
                await self._claim(kind, count)
                again = True
        # Also while one kind is claimed without a pause: tickets of another, whose slots are full, grow old meanwhile.
        await self._intake.forget_stale()
        return 0.0 if again else self._dry()

    def _dry(self) -> float:
        """Where many tickets came one after the other and then none, the draw may find more."""
        if self._row < MANY:
            return 1.0
        left = self._last + DRY - self._clock()
        if left > 0:
            return left
        self._row = 0
        self._late()
        return 1.0

    def take(self, tickets: Sequence[Ticket], lanes: Collection[LaneKey]) -> Sequence[Ticket]:
        """Claim at once what this very process has just made queued in these lanes: as much as slots are free, the most
        urgent first, where no ticket of the broker waits for them.

        Returns:
            The others, each lane in its order.
        """
        room = {kind: 0 if self._intake.waiting(kind) else self._slots.for_tickets(kind) for kind in RunsIn}
        taken: dict[RunsIn, list[str]] = {}
        others = []
        for ticket in sorted(tickets, key=_urgency):
            kind = ticket.runs_in
            if room[kind] and ticket.lane in lanes:
                room[kind] -= 1
                taken.setdefault(kind, []).append(ticket.job_id)
            else:
                others.append(ticket)
        for kind, ids in taken.items():
            self._slots.hold(kind, len(ids))
            task = asyncio.create_task(self._claim_near(kind, ids))
            self.background.add(task)
            task.add_done_callback(self.background.discard)
        return others

    async def _claim_near(self, kind: RunsIn, ids: Sequence[str]) -> None:
        claims: Sequence[Claim] = ()
        try:
            claims = await self._claims.claim(self._worker(), ids, self._tasks(kind))
        except Exception as error:
            log.warning(
                "%d jobs were not claimed where they were submitted, a draw will find them: %r", len(ids), error
            )
        finally:
            self._slots.release(kind, len(ids))
        self.near += len(claims)
        for claim in claims:
            self._start(claim)
        if len(claims) < len(ids):
            self._late()
        if self._intake.waiting(kind):
            self.bell.ring()

    async def _claim(self, kind: RunsIn, count: int) -> None:
        held = self._intake.take(kind, count)
        self._slots.hold(kind, count)
        try:
            ids = list(dict.fromkeys(ticket.job_id for ticket, _ in held))
            claims = await self._claims.claim(self._worker(), ids, self._tasks(kind))
            self.claimed += len(claims)
            now = self._clock()
            self._row = len(claims) + (self._row if now - self._last < DRY else 0)
            self._last = now
            if claims and not self.told:
                log.info("tickets start jobs")
                self.told = True
            for claim in claims:
                self._start(claim)
            if len(claims) < len(ids) and not self._intake.waiting(kind):
                self._late()
        finally:
            self._slots.release(kind, count)
            # Acked also where the claim failed: the row is still queued, and the draw finds it.
            for _, parcel in held:
                await parcel.used()


def _urgency(ticket: Ticket) -> Lane:
    return ticket.lane.lane
