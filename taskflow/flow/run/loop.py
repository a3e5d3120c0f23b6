"""`async def` handlers: on one loop in a thread of its own. Runs go in and endings come out in batches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import uvloop

from taskflow.core.errors import TaskFlowError
from taskflow.flow import capture
from taskflow.flow.run import forked
from taskflow.flow.run.call import call_async, call_sync
from taskflow.flow.run.line import Line
from taskflow.flow.run.run import Run
from taskflow.flow.run.stop import StopReason, stopped
from taskflow.tasks.declare import Lifespan
from taskflow.tasks.ending import ending_of_error

OPENING: Final = 60.0
STOP: Final = 5.0
ANSWER: Final = 0.5

log = logging.getLogger("taskflow")


class LifespanFailed(TaskFlowError):
    """A `@lifespan` function did not open its resources."""


class HandlerLoop:
    """The loop that handlers share, and the resources that their module's lifespans opened.

    Args:
        caught_up: called on the main loop once there is room in the line where there was none.

    Attributes:
        line: the runs that have not begun.
    """

    def __init__(self, lifespans: Sequence[Lifespan], caught_up: Callable[[], None]) -> None:
        self._lifespans = lifespans
        self._caught_up = caught_up
        self.line = Line()
        self._incoming: deque[Run] = deque()
        self._woken = False
        self._opened: Future[Mapping[str, Any]] = Future()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[Run, asyncio.Task[None]] = {}
        self._closing, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._main, name="taskflow-handlers", daemon=True)
        self.ticked = time.monotonic()
        self.resources: Mapping[str, Any] = {}

    async def open(self) -> None:
        """Start the loop and open the resources.

        Raises:
            LifespanFailed: one of them did not open.
        """
        self._thread.start()
        try:
            async with asyncio.timeout(OPENING):
                self.resources = await asyncio.wrap_future(self._opened)
        except TimeoutError:
            raise LifespanFailed(f"the lifespans of the tasks' modules did not open within {OPENING:.0f} s") from None

    @property
    def alive(self) -> bool:
        """Whether the loop is there at all."""
        return self._thread.is_alive()

    async def close(self) -> None:
        """Close the resources and end the loop, unless a handler blocks it."""
        if self._stop is not None and self._thread.is_alive():
            self._on_loop(self._stop.set)
            if await asyncio.to_thread(self._closing.wait, ANSWER):
                await asyncio.to_thread(self._closed.wait, STOP)
                # Handlers that will not be cancelled are on it still; they end with the process.
                await asyncio.to_thread(self._thread.join, ANSWER)

    def start(self, run: Run) -> None:
        """Hand a run over; a burst of them wakes the loop once."""
        run.stopping = self._stop_run
        self._incoming.append(run)
        self.line.add(run)
        if not self._woken:
            self._woken = True
            run.main.call_soon(self._hand_over)

    def _stop_run(self, run: Run) -> None:
        self._on_loop(self._cancel, run)

    def _hand_over(self) -> None:
        self._woken = False
        self._on_loop(self._take)

    def tick(self) -> None:
        """Ask the loop for a sign of life; it shows in `ticked`."""
        self._on_loop(self._tick)

    def _on_loop(self, call: Any, *args: Any) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(call, *args)
            except RuntimeError:
                log.debug("the handlers' loop is closed")

    def _tick(self) -> None:
        self.ticked = time.monotonic()
        # A handler may cancel the tasks of others: one that had not begun leaves no other trace.
        for run, task in [(run, task) for run, task in self._tasks.items() if task.done()]:
            self._forget(run, task)

    def _take(self) -> None:
        loop = self._loop
        while self._incoming:
            run = self._incoming.popleft()
            self._tasks[run] = asyncio.Task(self._run(run), loop=loop, name=run.claim.id)

    def _forget(self, run: Run, task: asyncio.Task[None]) -> None:
        """Whatever came of a task that did not even take its first step, its run is over."""
        self._tasks.pop(run, None)
        if run.ended and not run.left:
            return
        error = None if task.cancelled() else task.exception()
        run.end(ending_of_error(run.task, error) if error else stopped(run.claim, run.reason or StopReason.SHUTDOWN))

    def _cancel(self, run: Run) -> None:
        task = self._tasks.get(run)
        if task is not None:
            task.add_done_callback(partial(self._forget, run))
            task.cancel()

    async def _run(self, run: Run) -> None:
        try:
            begins = run.begin()
            if run is self.line.awaited:
                # Whoever comes in between is told, too, and asks again.
                self.line.awaited = None
                run.main.call_soon_threadsafe(self._caught_up)
            if not begins:
                return
            capture.current.set(run.emit_log)
            try:
                ending = await call_async(run.task, run.claim.payload, lambda: run.context(self.resources))
            except asyncio.CancelledError:
                ending = stopped(run.claim, run.reason or StopReason.SHUTDOWN)
            capture.flush_parts()
        except BaseException as error:
            ending = ending_of_error(run.task, error)
        self._tasks.pop(run, None)
        run.end(ending)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if not self._opened.done():
                known = isinstance(error, LifespanFailed)
                self._opened.set_exception(
                    error if known else LifespanFailed(f"the handlers' loop did not start: {error!r}")
                )
            else:
                log.exception("the handlers' loop ended")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with opened(self._lifespans) as resources:
            self._opened.set_result(resources)
            await self._stop.wait()
            self._closing.set()
        self._closed.set()


forked.guard(HandlerLoop._main.__code__, call_sync.__code__)  # noqa: SLF001 - its own module


@asynccontextmanager
async def opened(lifespans: Sequence[Lifespan]) -> AsyncIterator[Mapping[str, Any]]:
    """The merged resources of lifespans, closed in reverse."""
    resources: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        for lifespan in lifespans:
            name = getattr(lifespan.function, "__qualname__", repr(lifespan.function))
            try:
                yielded = await stack.enter_async_context(asynccontextmanager(lifespan.function)())
                resources.update(yielded)
            except Exception as error:
                raise LifespanFailed(f"the lifespan {name!r} failed: {type(error).__name__}: {error}") from error
        yield resources
