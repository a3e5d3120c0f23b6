"""Child processes: for handlers that must be killable, and for jobs that crashed their workers."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from taskflow.core.job import ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending
from taskflow.core.outage import backoff
from taskflow.flow.loops import Bell
from taskflow.flow.run.child import STREAM, Child, NotStarted
from taskflow.flow.run.guard import Guard
from taskflow.flow.run.run import Run

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries to start a child while none starts."""

log = logging.getLogger("taskflow")


class Children:
    """A pool of children; idle ones are used again, killed ones are not.

    Args:
        modules: what a child imports to find the handlers.
        lease: seconds that a child outlives the last accepted beat.
        mended: called when children start again.

    Attributes:
        broken: why children do not start at present; `None` where they do as far as one knows.
    """

    def __init__(self, modules: Sequence[str], lease: float, mended: Callable[[], None] = lambda: None) -> None:
        self._modules = list(modules)
        self._lease = lease
        self._mended = mended
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._guard = Guard()
        self._pause = Bell()
        self.broken: str | None = None

    def start(self, run: Run) -> None:
        """Run in a child, idle or new."""
        self._keep(self._run(run))

    def beat_accepted(self, lease: float) -> None:
        """Re-arm every busy child's dead man's switch."""
        for child in self._busy:
            child.tell({"kind": "beat", "lease": lease})

    async def close(self) -> None:
        """Kill every child."""
        self._closed = True
        self._pause.ring()
        for child in self._busy:
            child.kill()
        if self._running:
            await asyncio.wait(list(self._running), timeout=5)
        while self._idle:
            await self._idle.pop().reap()
        await self._guard.close()

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, run: Run) -> None:
        child: Child | None = None
        served = False
        try:
            child = await self._child(run)
            run.stopping = child.stop
            ending = await child.run(run, self._lease)
            served = True
        except NotStarted as error:
            # Not the job's doing: it runs again, and is charged for nothing.
            log.warning("job %s was not run and runs again: %s", run.claim.id, error)
            ending = Ending(outcome=Outcome.INTERRUPTED, error=ErrorInfo("ChildNotStarted", str(error)))
        except Exception as error:
            log.exception("a child process could not run a job")
            ending = Ending(outcome=Outcome.FAILED, error=ErrorInfo("ChildProcess", f"the child failed: {error!r}"))
        if child is not None:
            # A limit on memory cannot be taken back: such a child serves one run.
            await self._give_back(child, again=served and run.task.memory is None)
        run.end(ending)

    async def _child(self, run: Run) -> Child:
        while self._idle and run.task.memory is None:
            child = self._idle.pop()
            if child.usable and child.lives:
                self._busy.add(child)
                return child
            await child.reap()
        try:
            return await self._start(run)
        except NotStarted as error:
            if not (self._closed or run.is_cancelled()) and self.broken is None:
                log.warning("jobs that need a child process wait: %s", error)
                self.broken = str(error)
                self._keep(self._mend())
            raise

    async def _mend(self) -> None:
        """Try to start a child until one does, so that no further job has to."""
        failures = 0
        while self.broken is not None:
            failures += 1
            await self._pause.wait(backoff(failures, FIRST_PAUSE, LONGEST_PAUSE))
            if self._closed:
                return
            try:
                child = await self._start()
            except Exception as error:
                self.broken = str(error) or repr(error)
            else:
                self.broken = None
                log.warning("child processes start again after %d failures", failures)
                await self._give_back(child)
                self._mended()

    async def _start(self, run: Run | None = None) -> Child:
        """A new child that can run handlers; it is busy until it is given back."""
        try:
            child = await self._spawn()
        except Exception as error:
            raise NotStarted(
                f"a child process could not be started (too many open files, processes, too little memory?): {error!r}"
            ) from error
        self._busy.add(child)
        try:
            if run is not None:
                run.stopping = lambda _: child.kill()
            if self._closed or (run is not None and run.is_cancelled()):
                child.kill()
            await child.ready()
        except BaseException:
            await self._give_back(child, again=False)
            raise
        return child

    async def _give_back(self, child: Child, *, again: bool = True) -> None:
        self._busy.discard(child)
        if again and child.usable and not self._closed:
            self._idle.append(child)
        else:
            await child.reap()

    async def _spawn(self) -> Child:
        await self._guard.ready()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "taskflow.flow.run.child_main",
            str(os.getpid()),
            str(min(logging.getLogger().level or logging.INFO, logging.INFO)),
            *self._modules,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            limit=STREAM,
        )
        self._guard.watch(process.pid)
        return Child(process, self._guard.forget)
