"""All runs of a worker: slots by kind, timeouts, stops, and endings handed over in batches."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import faulthandler
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from taskflow.core.job import Claim, RunsIn
from taskflow.core.lifecycle import Ending
from taskflow.flow import capture
from taskflow.flow.effects import RunEffects
from taskflow.flow.loops import LONGEST
from taskflow.flow.run.children import Children
from taskflow.flow.run.loop import HandlerLoop
from taskflow.flow.run.run import Run
from taskflow.flow.run.stop import StopReason, stopped
from taskflow.flow.run.thread import Threads
from taskflow.tasks.registry import Registry

ABANDON: Final = 5.0
"""Seconds after which a stopped run that goes on is left behind."""
HUNG: Final = 30.0
TICK: Final = 1.0

log = logging.getLogger("taskflow")


class Runners:
    """Starts runs and calls `done` once for each, on the main loop.

    Args:
        slots: most runs at a time, by kind.
        done: takes each claim with its ending.
        lease: seconds that children outlive the last accepted beat.
        fatal: called when handlers cannot be trusted any more (a blocked loop, too many runs left behind).
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
    ) -> None:
        self._registry = registry
        self._slots = dict(slots)
        self._done = done
        self._effects = effects
        self._fatal = fatal
        self._loop = HandlerLoop(registry.lifespans)
        self._threads = Threads(lambda: self._loop.resources)
        self._children = Children(registry.modules, lease)
        self._runs: dict[tuple[str, int], Run] = {}
        self._used = dict.fromkeys(RunsIn, 0)
        self._isolated = 0
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
        """Slots of a kind that nobody uses: of processes none while they do not start."""
        if kind is RunsIn.PROCESS and self._children.broken:
            return 0
        return self._slots.get(kind, 0) - self._used[kind]

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
        """Begin a run, on the main loop."""
        assert self._main is not None
        task = self._registry.get(claim.task)
        run = Run(claim, task, self._effects, self._main, self._finished)
        self._runs[claim.id, claim.epoch] = run
        self._idle.clear()
        self._arm(run, time.monotonic() + claim.timeout)
        if claim.isolated:
            self._isolated += 1
            self._children.start(run)
            return
        self._used[task.runs_in] += 1
        match task.runs_in:
            case RunsIn.ASYNC:
                self._loop.start(run)
            case RunsIn.THREAD:
                self._threads.start(run)
            case RunsIn.PROCESS:
                self._children.start(run)

    def stop(self, job_id: str, epoch: int, reason: StopReason) -> None:
        """Ask a run to end; one that does not is left behind. The first reason stands."""
        run = self._runs.get((job_id, epoch))
        if run is None or run.reason is not None or run.ended:
            return
        run.reason = reason
        if run.stopping:
            run.stopping()
        assert self._main is not None
        self._main.call_later(ABANDON if reason is not StopReason.SHUTDOWN else 0.5, self._abandon, run)

    def _arm(self, run: Run, deadline: float) -> None:
        assert self._main is not None
        left = deadline - time.monotonic()
        if left <= 0:
            self.stop(run.claim.id, run.claim.epoch, StopReason.TIMEOUT)
        else:
            run.timer = self._main.call_later(min(left, LONGEST), self._arm, run, deadline)

    def _abandon(self, run: Run) -> None:
        if run.ended or run.reason is None:
            return
        kind = run.task.runs_in
        run.left = True
        self._left[kind] += 1
        log.warning("job %s (%s) goes on after it was stopped; it is left behind", run.claim.id, run.claim.task)
        run.end(stopped(run.claim, run.reason))
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
                self._used[run.task.runs_in] -= 1
            self._done(claim, ending)
        elif run.left:
            run.left = False
            self._left[run.task.runs_in] -= 1

    async def _watch(self) -> None:
        """A run past its time on a loop that shows no life: nothing on it can be trusted to end."""
        seen, silent = self._loop.ticked, 0.0
        while True:
            self._loop.tick()
            await asyncio.sleep(TICK)
            # Rounds are counted, not the clock: a process that was stopped for a while has no hung loop.
            silent = silent + TICK if self._loop.ticked == seen else 0.0
            seen = self._loop.ticked
            if not self._loop.alive:
                self._give_up("the handlers' loop is gone: a handler ended it")
            elif silent >= HUNG and self._late():
                self._give_up(
                    f"the handlers' loop has been blocked for {silent:.0f} s by a run that is past its timeout"
                )

    def _late(self) -> bool:
        return self._left[RunsIn.ASYNC] > 0 or any(
            run.reason is StopReason.TIMEOUT and run.task.runs_in is RunsIn.ASYNC for run in self._runs.values()
        )

    def _give_up(self, why: str) -> None:
        if not self._told:
            self._told = True
            with contextlib.suppress(Exception):
                faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
            self._fatal(why)
