"""The beat: proves life on a thread, a loop and a connection of its own, so that nothing else can hold it up.

A worker that cannot beat fences itself before anybody may take its runs over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Final

from taskflow.flow.loops import Outage
from taskflow.ports.store import Beat, Workers

RETRY: Final = 0.5

log = logging.getLogger("taskflow")


def boot_seconds() -> float:
    """Seconds that go on while the machine is suspended, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Heart:
    """Beats for one worker until it is stopped.

    Args:
        connect: opens the store's connection for beats, on this thread's loop.
        worker: the worker's id.
        period: seconds between beats.
        fence_after: seconds after the last accepted beat was sent at which the worker stops its own runs.
        heard: called on the main loop with each answer and when (`boot_seconds`) it was asked.
        fence: called on the main loop, once for each silence.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Workers]],
        worker: str,
        *,
        period: float,
        fence_after: float,
        heard: Callable[[Beat, float], None],
        fence: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._worker = worker
        self._period = period
        self._fence_after = fence_after
        self._heard = heard
        self._fence = fence
        self._main = asyncio.get_running_loop()
        self._ended: Future[None] = Future()
        self._stop = threading.Event()
        self._wake: Callable[[], None] = lambda: None
        self._outage = Outage("store (beat)")
        self._sent = boot_seconds()
        self._fenced = False
        self._thread = threading.Thread(target=self._run, name="taskflow-heart", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more; returns when the thread is done."""
        self._stop.set()
        self._wake()
        await asyncio.wait_for(asyncio.wrap_future(self._ended), 10)

    def _run(self) -> None:
        try:
            asyncio.run(self._beat_for_ever())
        except Exception:
            log.exception("the heart stopped; the worker will fence itself")
            self._tell(self._fence)
        finally:
            self._ended.set_result(None)

    async def _beat_for_ever(self) -> None:
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        self._wake = lambda: _call(loop, stopped.set)
        while not self._stop.is_set():
            try:
                async with self._connect() as workers:
                    while not self._stop.is_set():
                        alive = await self._beat(workers)
                        if not alive:
                            return
                        await _pause(stopped, self._period)
            except Exception as error:
                self._outage.lost(error)
                self._check_fence()
                await _pause(stopped, min(RETRY, self._period))

    async def _beat(self, workers: Workers) -> bool:
        sent = boot_seconds()
        beat = asyncio.ensure_future(workers.beat(self._worker))
        while not beat.done():
            left = self._fence_after - (boot_seconds() - self._sent)
            await asyncio.wait([beat], timeout=max(0.05, min(left, self._period)))
            self._check_fence()
            if boot_seconds() - sent > self._fence_after:
                beat.cancel()
                raise TimeoutError("no answer to a beat")
        answer = beat.result()
        self._outage.back()
        if answer.alive:
            self._sent, self._fenced = sent, False
        self._tell(self._heard, answer, sent)
        return answer.alive

    def _check_fence(self) -> None:
        if not self._fenced and boot_seconds() - self._sent >= self._fence_after:
            self._fenced = True
            self._tell(self._fence)

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        _call(self._main, call, *args)


def _call(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        pass  # the loop is closed: nobody is left to tell


async def _pause(stopped: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        pass
