"""`def` handlers: a thread each, reused. One that cannot be stopped is left behind and its slot replaced."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from taskflow.flow import capture
from taskflow.flow.run.call import call_sync
from taskflow.flow.run.run import Run
from taskflow.tasks.ending import ending_of_error


class Threads:
    """Daemon threads that wait for runs.

    Args:
        resources: what lifespans opened.
    """

    def __init__(self, resources: Callable[[], Mapping[str, Any]]) -> None:
        self._resources = resources
        self._queue: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()
        self._threads = 0

    def start(self, run: Run) -> None:
        """Run on an idle thread, or on a new one. The number of runs is bounded by the slots."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._work, name=f"taskflow-run-{self._threads + 1}", daemon=True).start()
                self._threads += 1
        self._queue.put(run)

    def close(self) -> None:
        """Let idle threads end; busy ones end with their run or with the process."""
        for _ in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        while (run := self._queue.get()) is not None:
            contextvars.copy_context().run(self._run, run)
            del run  # an idle thread holds nobody's payload
            with self._lock:
                self._idle += 1

    def _run(self, run: Run) -> None:
        if not run.begin():
            return
        capture.current.set(run.emit_log)
        try:
            ending = call_sync(run.task, run.claim.payload, lambda: run.context(self._resources()))
            capture.flush_parts()
        except BaseException as error:
            ending = ending_of_error(run.task, error)
        run.end(ending)
