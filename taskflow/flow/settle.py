"""Settle: endings become rows, in batches. A settle that fails never reruns the handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.core.job import Claim, ErrorInfo, State
from taskflow.core.lifecycle import Ending, Settlement, decide
from taskflow.core.retry import RetryPolicy
from taskflow.flow.batch import Batcher
from taskflow.flow.loops import Outage
from taskflow.flow.publish import Publisher
from taskflow.ports.events import Events
from taskflow.ports.store import Claims, Settled

UNKNOWN_FAILURES: Final = 3

log = logging.getLogger("taskflow")


class Settler:
    """Writes what runs ended in.

    Args:
        policy: the retry policy of a task.
        last_word: takes the progress of a run that is not written yet.
        due: told in how many seconds a job runs again.
        fatal: called when three writes in a row failed for a reason that nobody knows: stop claiming, drain, exit 70.
    """

    def __init__(
        self,
        claims: Claims,
        events: Events,
        publisher: Publisher,
        *,
        policy: Callable[[str], RetryPolicy],
        last_word: Callable[[str, int, str], str | None],
        fatal: Callable[[str], None],
        due: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._claims = claims
        self._events = events
        self._publisher = publisher
        self._policy = policy
        self._last_word = last_word
        self._fatal = fatal
        self._due = due
        self._batches: Batcher[Settlement, Settled] = Batcher(self._write, weigh=_weight, waiting=1_000_000)
        self._outage = Outage("store (settle)")
        self._unknown = 0
        self._open: dict[tuple[str, int], asyncio.Task[None]] = {}
        self.zombies = 0

    @property
    def open(self) -> frozenset[tuple[str, int]]:
        """(job id, epoch) of endings that are not written yet."""
        return frozenset(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def settle(self, claim: Claim, ending: Ending) -> None:
        """Decide and write in the background, however long the store takes."""
        settlement = decide(claim, ending, self._policy(claim.task))
        last_word = self._last_word(claim.id, claim.epoch, claim.worker)
        if last_word is not None:
            settlement = replace(settlement, progress=last_word)
        key = (claim.id, claim.epoch)
        task = asyncio.get_running_loop().create_task(self._settle(settlement))
        self._open[key] = task
        task.add_done_callback(lambda _: self._open.pop(key, None))

    async def drain(self) -> None:
        """Wait until everything so far is written."""
        while self._open:
            await asyncio.wait(list(self._open.values()))

    async def _settle(self, settlement: Settlement) -> None:
        while True:
            try:
                settled = await self._batches.put(settlement)
            except DataRejected as refused:
                settlement = _without_value(settlement, refused)
            except StoreUnavailable as error:
                await asyncio.sleep(self._outage.lost(error))
            except Exception as error:
                log.exception("a settlement failed for an unknown reason")
                self._unknown += 1
                if self._unknown >= UNKNOWN_FAILURES:
                    self._fatal(f"settling failed {self._unknown} times in a row: {error!r}")
                await asyncio.sleep(self._outage.lost(error))
            else:
                self._unknown = 0
                self._outage.back()
                if settlement.delay is not None:
                    self._due(settlement.delay)
                if settled.state is None:
                    self.zombies += 1
                    log.warning(
                        "job %s epoch %d: the run was no longer ours; its end was dropped",
                        settled.job_id,
                        settled.epoch,
                    )
                return

    async def _write(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        settled = await self._claims.settle(settlements)
        self._publisher.offer([row.ticket for row in settled if row.ticket])
        for row in settled:
            if row.state is not None:
                await self._events.publish(f"job:{row.job_id}", row.state.encode())
        return settled


def _weight(settlement: Settlement) -> int:
    return len(settlement.result or "")


def _without_value(settlement: Settlement, refused: DataRejected) -> Settlement:
    """The one bad row of a batch settles once, as a clear failure."""
    error = ErrorInfo("Unstorable", f"the store refuses this run's result or error: {refused}"[:2_000])
    if settlement.result is None and settlement.error is not None:
        error = ErrorInfo("Unstorable", "the store refuses this run's error text")
    return replace(settlement, result=None, error=error, state=State.FAILED, delay=None, reason="unstorable")
