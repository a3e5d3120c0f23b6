"""Publish: tickets go out behind the commit that made their rows queued. One that fails is forgotten."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from taskflow.core.errors import TaskFlowError
from taskflow.core.job import RunsIn, Ticket
from taskflow.core.limits import TICKETS_SHARED
from taskflow.flow.loops import Bell, Outage
from taskflow.ports.broker import Broker

WAITING: Final = 10_000
BATCH: Final = 1_000
DEADLINE: Final = 6.0
"""Seconds. The adapter's own deadline is 5 and says more; this one holds where an adapter has none."""
CROWD: Final = 8
"""Workers that messages are sized for while none is known to live: some will come, and must find more than one."""
MOMENT: Final = 0.1
"""Seconds: what is published within them counts as one batch. Many small ones one after the other are fair as a whole, and a
message for every few tickets would cost more than the jobs."""
UNKNOWN: Final = 128
"""Slots of a worker of which nothing is known."""

log = logging.getLogger("taskflow")


def share_of(batch: int, workers: int, slots: int = 0) -> int:
    """How many tickets of a batch may share a message, so that each live worker still gets two messages of it.

    Args:
        batch: tickets that are published together, or one soon after the other.
        workers: live workers; 0 where none are known.
        slots: of the smallest worker, half of which a message may fill: what it cannot start, it keeps from others. 0
            where nobody knows.
    """
    most = min(TICKETS_SHARED, max(1, (slots or UNKNOWN) // 2))
    return min(most, max(1, -(-batch // (2 * (workers or CROWD)))))


class Publisher:
    """Sends offered tickets in the background, bounded; the draw finds the rows of tickets that were not sent.

    Args:
        workers: live workers as last known, 0 where unknown; asked once a batch, so it must be cheap.
        slots: of a kind that the smallest of them has, 0 where unknown.
        clock: seconds, monotonic.

    Attributes:
        near: takes what can be claimed in this very process, and returns the rest, which goes to the broker.
    """

    def __init__(
        self,
        broker: Broker,
        workers: Callable[[], int] = lambda: 0,
        slots: Callable[[RunsIn], int] = lambda _: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._workers = workers
        self._slots = slots
        self._clock = clock
        self._publishing = False
        self._lately = 0.0
        self._last = -math.inf
        self._waiting: deque[Ticket] = deque()
        self._bell = Bell()
        self._outage = Outage("broker (publish)")
        self.forgotten = 0
        self.near: Callable[[Sequence[Ticket]], Sequence[Ticket]] = lambda tickets: tickets

    def offer(self, tickets: Sequence[Ticket]) -> None:
        """Take tickets of rows that are committed: to be claimed here, or to be published. Never blocks, never fails."""
        # What was published before comes first, and is on its way. Where a publish failed, only the next one shows whether the
        # broker is back.
        if self.connected and not (self._waiting or self._publishing):
            tickets = self.near(tickets)
        room = WAITING - len(self._waiting)
        self._waiting.extend(tickets[:room])
        self.forgotten += max(0, len(tickets) - room)
        if tickets:
            self._bell.ring()

    @property
    def connected(self) -> bool:
        """Whether the last publish was confirmed."""
        return self._outage.failures == 0

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            if not self._waiting:
                await self._bell.wait(60)
                continue
            tickets = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._publishing = True
            try:
                async with asyncio.timeout(DEADLINE):
                    await self._broker.publish(tickets, share=self._share(tickets))
                self._outage.back()
            except Exception as error:
                if not isinstance(error, TaskFlowError | TimeoutError):
                    log.exception("tickets were not published for an unknown reason")
                self.forgotten += len(tickets)
                await asyncio.sleep(self._outage.lost(error))
            finally:
                self._publishing = False

    def _share(self, tickets: Sequence[Ticket]) -> int:
        # Of one batch, whatever its kinds: apart, they would leave a lane's order.
        slots = min(self._slots(kind) for kind in {ticket.runs_in for ticket in tickets})
        now = self._clock()
        self._lately = self._lately * math.exp((self._last - now) / MOMENT) + len(tickets)
        self._last = now
        return share_of(round(self._lately), self._workers(), slots)
