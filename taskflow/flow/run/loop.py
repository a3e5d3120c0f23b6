"""`async def` handlers: on one loop in a thread of its own. Runs go in and endings come out in batches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import uvloop

from taskflow.core.errors import TaskFlowError
from taskflow.flow import capture
from taskflow.flow.run.call import call_async
from taskflow.flow.run.run import Run
from taskflow.flow.run.stop import StopReason, stopped
from taskflow.tasks.declare import Lifespan

STOP: Final = 5.0

log = logging.getLogger("taskflow")


class LifespanFailed(TaskFlowError):
    """A `@lifespan` function did not open its resources."""


class HandlerLoop:
    """The loop that handlers share, and the resources that their module's lifespans opened."""

    def __init__(self, lifespans: Sequence[Lifespan]) -> None:
        self._lifespans = lifespans
        self._incoming: deque[Run] = deque()
        self._woken = False
        self._lock = threading.Lock()
        self._opened: Future[Mapping[str, Any]] = Future()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: dict[Run, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._main, name="taskflow-handlers", daemon=True)
        self.ticked = time.monotonic()
        self.resources: Mapping[str, Any] = {}

    async def open(self) -> None:
        """Start the loop and open the resources.

        Raises:
            LifespanFailed: one of them did not open.
        """
        self._thread.start()
        self.resources = await asyncio.wrap_future(self._opened)

    async def close(self) -> None:
        """Close the resources and end the loop, unless a handler blocks it."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            await asyncio.to_thread(self._thread.join, STOP)

    def start(self, run: Run) -> None:
        """Hand a run over; a burst of them wakes the loop once."""
        run.stopping = lambda: self._on_loop(self._cancel, run)
        self._incoming.append(run)
        with self._lock:
            woken, self._woken = self._woken, True
        if not woken:
            self._on_loop(self._take)

    def tick(self) -> None:
        """Ask the loop for a sign of life; it shows in `ticked`."""
        self._on_loop(self._tick)

    def _on_loop(self, call: Any, *args: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *args)

    def _tick(self) -> None:
        self.ticked = time.monotonic()

    def _take(self) -> None:
        with self._lock:
            self._woken = False
        while self._incoming:
            run = self._incoming.popleft()
            task = asyncio.get_running_loop().create_task(self._run(run))
            self._tasks[run] = task
            task.add_done_callback(partial(self._forget, run))

    def _forget(self, run: Run, _: asyncio.Task[None]) -> None:
        self._tasks.pop(run, None)

    def _cancel(self, run: Run) -> None:
        task = self._tasks.get(run)
        if task is not None:
            task.cancel()

    async def _run(self, run: Run) -> None:
        if run.is_cancelled():
            run.end(stopped(run.claim, run.reason or StopReason.SHUTDOWN))
            return
        capture.current.set(run.emit_log)
        try:
            run.end(await call_async(run.task, run.claim.payload, run.context(self.resources)))
        except asyncio.CancelledError:
            run.end(stopped(run.claim, run.reason or StopReason.SHUTDOWN))
        finally:
            capture.flush_parts()

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except Exception as error:
            if not self._opened.done():
                self._opened.set_exception(error)
            else:
                log.exception("the handlers' loop ended")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with opened(self._lifespans) as resources:
            self._opened.set_result(resources)
            await self._stop.wait()


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
