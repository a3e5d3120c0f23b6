"""All runs of a worker: slots by kind, timeouts, stops, and endings handed over in batches."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import faulthandler
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from taskflow.core.job import Claim, Outcome, RunsIn
from taskflow.core.lifecycle import Ending
from taskflow.flow import capture
from taskflow.flow.effects import RunEffects
from taskflow.flow.loops import LONGEST, backoff
from taskflow.flow.run.children import Children
from taskflow.flow.run.loop import HandlerLoop
from taskflow.flow.run.run import Run
from taskflow.flow.run.stop import StopReason, stopped
from taskflow.flow.run.thread import Threads
from taskflow.tasks.registry import Registry

ABANDON: Final = 5.0
"""Seconds after which a stopped run that goes on is left behind."""
TICK: Final = 1.0
QUIET: Final = 2.0
"""Seconds without a sign of life from the handlers' loop after which nothing more is claimed for it."""
STALLED: Final = 15.0
"""And after which this worker is called not ready."""
HUNG: Final = 30.0
"""And after which it ends, where no run on that loop may still take its time."""
SOON: Final = 2 * TICK
"""Runs with less time left than this have timers of their own; most end long before they need one."""
CHECK: Final = 0.05
"""A run that has not begun is looked at once in its timeout, but not more often than this."""

log = logging.getLogger("taskflow")


class Runners:
    """Starts runs and calls `done` once for each, on the main loop.

    Args:
        slots: most runs at a time, by kind.
        done: takes each claim with its ending.
        lease: seconds that children outlive the last accepted beat.
        fatal: called when handlers cannot be trusted any more (a blocked loop, too many runs left behind).
        freed: called where slots may be used again that could not be for a while.
        caught_up: and where they could not because the handlers' loop had runs in line.

    Attributes:
        silent: seconds since the handlers' loop showed life.
    """

    def __init__(
        self,
        registry: Registry,
        slots: Mapping[RunsIn, int],
        done: Callable[[Claim, Ending], None],
        *,
        effects: RunEffects,
        lease: float,
        fatal: Callable[[str], None],
        freed: Callable[[], None] = lambda: None,
        caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._slots = dict(slots)
        self._done = done
        self._effects = effects
        self._fatal = fatal
        self._freed = freed
        self.silent = 0.0
        self._loop = HandlerLoop(registry.lifespans, caught_up)
        self._threads = Threads(lambda: self._loop.resources)
        self._children = Children(registry.modules, lease, freed)
        self._runs: dict[tuple[str, int], Run] = {}
        self._used = dict.fromkeys(RunsIn, 0)
        self._isolated = 0
        self._resting: set[RunsIn] = set()
        self._failures = dict.fromkeys(RunsIn, 0)
        self._left = dict.fromkeys(RunsIn, 0)
        self._told = False
        self._endings: deque[tuple[Run, Ending]] = deque()
        self._lock = threading.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._main: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.copy_context()
        self._monitor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._main = asyncio.get_running_loop()
        capture.install()
        await self._loop.open()
        self._monitor = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._monitor:
            self._monitor.cancel()
        for run in list(self._runs):
            self.stop(*run, StopReason.SHUTDOWN)
        await self._children.close()
        self._threads.close()
        await self._loop.close()

    def free(self, kind: RunsIn) -> int:
        """Slots of a kind that nobody uses; none while a run could not begin there, and fewer where it could not soon."""
        if kind in self._resting or (kind is RunsIn.ASYNC and self.silent >= QUIET):
            return 0
        if kind is RunsIn.PROCESS and self._children.broken:
            return 0
        free = self._slots.get(kind, 0) - self._used[kind]
        return min(free, self._loop.line.room()) if free > 0 and kind is RunsIn.ASYNC else free

    @property
    def isolation_free(self) -> bool:
        """Whether the one slot for suspects is free."""
        return self._isolated == 0 and not self._children.broken

    @property
    def broken(self) -> str | None:
        """Why no child process starts, or `None`."""
        return self._children.broken

    @property
    def abandoned(self) -> int:
        """Runs that were left behind and go on still."""
        return sum(self._left.values())

    def running(self) -> Mapping[tuple[str, int], Run]:
        """Runs in progress by (job id, epoch)."""
        return self._runs

    async def idle(self) -> None:
        """Until nothing runs."""
        await self._idle.wait()

    def beat_accepted(self, lease: float) -> None:
        """Children may live for another lease."""
        self._children.beat_accepted(lease)

    def start(self, claim: Claim) -> None:
        """Begin a run, on the main loop. One that cannot be started ends as an interruption."""
        assert self._main is not None
        run = Run(claim, self._registry.get(claim.task), self._effects, self._main, self._finished)
        self._runs[claim.id, claim.epoch] = run
        self._idle.clear()
        kind = run.kind
        if claim.isolated:
            self._isolated += 1
        else:
            self._used[kind] += 1
        try:
            if claim.timeout < SOON:
                self._arm(run)
            if kind is RunsIn.ASYNC:
                self._loop.start(run)
            elif kind is RunsIn.THREAD:
                self._threads.start(run)
            else:
                self._children.start(run)
        except Exception as error:
            self._unable(run, error)

    def stop(self, job_id: str, epoch: int, reason: StopReason) -> None:
        """Ask a run to end; one that does not is left behind. The first reason stands."""
        run = self._runs.get((job_id, epoch))
        if run is None or run.reason is not None or run.ended:
            return
        run.reason = reason
        if run.withdraw():
            return
        if run.stopping:
            run.stopping(run)
        assert self._main is not None
        self._main.call_later(ABANDON if reason is not StopReason.SHUTDOWN else 0.5, self._abandon, run)

    def _arm(self, run: Run) -> None:
        assert self._main is not None
        left = run.left_of_time
        if left <= 0:
            self.stop(run.claim.id, run.claim.epoch, StopReason.TIMEOUT)
        else:
            run.timer = self._main.call_later(min(left, LONGEST, max(run.claim.timeout, CHECK)), self._arm, run)

    def _unable(self, run: Run, error: Exception) -> None:
        """It was not started. No more of its kind are claimed for a while, longer each time in a row."""
        run.end(Ending(outcome=Outcome.INTERRUPTED))
        kind = run.kind
        if kind in self._resting:
            return
        assert self._main is not None
        self._resting.add(kind)
        self._failures[kind] += 1
        pause = backoff(self._failures[kind], base=2.0)
        log.warning(
            "job %s (%s) could not be started and is given back, no attempt charged; the next of its kind (%s) in %.1f s: %r",
            run.claim.id, run.claim.task, kind.value, pause, error,
        )  # fmt: skip
        self._main.call_later(pause, self._rested, kind, self._failures[kind])

    def _rested(self, kind: RunsIn, failures: int) -> None:
        assert self._main is not None
        self._resting.discard(kind)
        self._main.call_later(LONGEST, self._forgive, kind, failures)
        self._freed()

    def _forgive(self, kind: RunsIn, failures: int) -> None:
        if self._failures[kind] == failures:
            self._failures[kind] = 0

    def _abandon(self, run: Run) -> None:
        if run.ended or run.reason is None:
            return
        kind = run.kind
        run.left = True
        self._left[kind] += 1
        log.warning("job %s (%s) goes on after it was stopped; it is left behind", run.claim.id, run.claim.task)
        run.end(stopped(run.claim, run.reason, began=run.began is not None))
        if run.reason is not StopReason.SHUTDOWN and self._left[kind] > self._slots.get(kind, 0):
            self._give_up(f"{self._left[kind]} runs could not be stopped")

    def _finished(self, run: Run, ending: Ending) -> None:
        """From any thread: a burst of endings wakes the main loop once."""
        with self._lock:
            self._endings.append((run, ending))
            first = len(self._endings) == 1
        if first:
            assert self._main is not None
            try:
                # Not in the context of the run that happened to end: what settles outlives it.
                self._main.call_soon_threadsafe(self._deliver, context=self._context)
            except RuntimeError:
                log.debug("a run ended after its worker")

    def _deliver(self) -> None:
        while self._endings:
            try:
                self._close(*self._endings[0])
            except Exception:
                log.exception("an ending was not taken")
            # Taken out last: whoever adds meanwhile sees that this loop is at work and wakes nobody.
            with self._lock:
                self._endings.popleft()
        self._loop.line.waiting()  # lets go of those that have begun
        if not self._runs:
            self._idle.set()

    def _close(self, run: Run, ending: Ending) -> None:
        claim = run.claim
        if self._runs.pop((claim.id, claim.epoch), None) is not None:
            if run.timer:
                run.timer.cancel()
            if claim.isolated:
                self._isolated -= 1
            else:
                self._used[run.kind] -= 1
            if run.reason is StopReason.TIMEOUT and ending.outcome is Outcome.INTERRUPTED:
                log.warning(
                    "job %s (%s) did not begin in its time: it is given back, no attempt charged", claim.id, claim.task
                )
            self._done(claim, ending)
        elif run.left:
            run.left = False
            self._left[run.kind] -= 1

    async def _watch(self) -> None:
        """A loop that shows no life gets no more runs; where none may hold it up, nothing on it can be trusted to end."""
        seen = self._loop.ticked
        while True:
            self._loop.tick()
            await asyncio.sleep(TICK)
            try:
                for run in [run for run in self._runs.values() if run.timer is None and run.left_of_time < SOON]:
                    self._arm(run)
            except Exception:  # whatever one run's stop raises, the others' timeouts have no other clock
                log.exception("the timeouts of runs were not looked at")
            # Rounds are counted, not the clock: a process that was stopped for a while has no hung loop.
            before, self.silent = self.silent, self.silent + TICK if self._loop.ticked == seen else 0.0
            seen = self._loop.ticked
            if before < STALLED <= self.silent:
                log.warning(
                    "the handlers' loop has shown no life for %.0f s: a handler blocks it or broke it", self.silent
                )
            elif self.silent == 0 and before >= STALLED:
                log.warning("the handlers' loop is back after %.0f s", before)
            if self.silent == 0 and before >= QUIET:
                self._freed()
            if not self._loop.alive:
                self._give_up("the handlers' loop is gone: a handler ended it")
            elif self.silent >= HUNG and (why := self._hopeless()):
                self._give_up(f"the handlers' loop has been blocked for {self.silent:.0f} s {why}")

    def _hopeless(self) -> str | None:
        """Why a silent loop will not come back, or `None` where a run on it may take its time."""
        begun = [run for run in self._runs.values() if run.kind is RunsIn.ASYNC and run.began is not None]
        if self._left[RunsIn.ASYNC] > 0 or any(run.reason is StopReason.TIMEOUT for run in begun):
            return "by a run that is past its timeout"
        return None if begun else "though no run is on it"

    def _give_up(self, why: str) -> None:
        if not self._told:
            self._told = True
            with contextlib.suppress(Exception):
                faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
            self._fatal(why)
