"""Settle: endings become rows, in batches. A settle that fails never reruns the handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

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
UNSTORABLE: Final = "unstorable"

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
        self._pause = 0.0
        self._unknown = 0
        self._open: set[tuple[str, int]] = set()
        self._all_written = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
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
            settlement = settlement._replace(progress=last_word)
        self._open.add((claim.id, claim.epoch))
        self._put(settlement)

    async def drain(self) -> None:
        """Wait until everything so far is written, and told."""
        while self._open:
            self._all_written.clear()
            await self._all_written.wait()
        while self._background:
            await asyncio.wait(list(self._background))

    def _put(self, settlement: Settlement) -> None:
        self._batches.hand(settlement, _Answer(self, settlement))

    def failed(self, settlement: Settlement, error: BaseException) -> None:
        """It is not known to be written: it will be, however long the store takes."""
        self._spawn(self._again(settlement, error))

    def written(self, settlement: Settlement, settled: Settled) -> None:
        """It is, or is nobody's to write any more."""
        if settled.state is None:
            self.zombies += 1
            log.warning(
                "job %s epoch %d: the run was no longer ours; its end was dropped", settlement.id, settlement.epoch
            )
        self._close(settlement)
        if settlement.delay is not None:
            self._due(settlement.delay)

    def _close(self, settlement: Settlement) -> None:
        self._open.discard((settlement.id, settlement.epoch))
        if not self._open:
            self._all_written.set()

    async def _again(self, settlement: Settlement, error: BaseException) -> None:
        if isinstance(error, DataRejected):
            if settlement.reason == UNSTORABLE:
                log.error(
                    "job %s epoch %d: the store refuses its row whatever its end: %s",
                    settlement.id,
                    settlement.epoch,
                    error,
                )
                self._close(settlement)
                return
            settlement = _without_value(settlement, error)
        else:
            await asyncio.sleep(self._pause)
        self._put(settlement)

    async def _write(self, settlements: Sequence[Settlement]) -> Sequence[Settled]:
        try:
            settled = await self._claims.settle(settlements)
        except DataRejected:
            raise
        except Exception as error:
            self._failed(error)
            raise
        self._unknown = 0
        self._outage.back()
        self._publisher.offer([row.ticket for row in settled if row.ticket])
        news = [(f"job:{row.job_id}", row.state.encode()) for row in settled if row.state is not None]
        # Beside the next write: who waits for news is not who waits for the store.
        self._spawn(self._events.publish_all(news))
        return settled

    def _failed(self, error: Exception) -> None:
        """A whole batch, once, however many wait for it."""
        self._pause = self._outage.lost(error)
        if isinstance(error, StoreUnavailable):
            return
        log.error("a batch of settlements failed for an unknown reason", exc_info=error)
        self._unknown += 1
        if self._unknown >= UNKNOWN_FAILURES:
            self._fatal(f"settling failed {self._unknown} times in a row: {error!r}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class _Answer:
    """What the batch is told for one settlement. A future and a callback for each would cost as much as all the rest."""

    __slots__ = ("_settlement", "_settler")

    def __init__(self, settler: Settler, settlement: Settlement) -> None:
        self._settler = settler
        self._settlement = settlement

    def done(self) -> bool:
        return False

    def set_result(self, settled: Settled) -> None:
        self._settler.written(self._settlement, settled)

    def set_exception(self, error: BaseException) -> None:
        self._settler.failed(self._settlement, error)

    def cancel(self) -> None:
        pass  # this process ends; a sweep finds the row


def _weight(settlement: Settlement) -> int:
    return len(settlement.result or "")


def _without_value(settlement: Settlement, refused: DataRejected) -> Settlement:
    """The one bad row of a batch settles once, as a clear failure."""
    error = ErrorInfo("Unstorable", f"the store refuses this run's result or error: {refused}"[:2_000])
    if settlement.result is None and settlement.error is not None:
        error = ErrorInfo("Unstorable", "the store refuses this run's error text")
    return settlement._replace(result=None, error=error, state=State.FAILED, delay=None, reason=UNSTORABLE)
