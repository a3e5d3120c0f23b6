"""Progress: the latest word of each run, written at most twice a second for all of them together."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final

from taskflow.core.errors import StoreUnavailable
from taskflow.ports.store import Jobs

PERIOD: Final = 0.5

Run = tuple[str, int, str]
"""Job, epoch and worker."""


class ProgressWriter:
    """Collects from any thread, writes from the main loop, on which it is made."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._main = asyncio.get_running_loop()
        self._noted = asyncio.Event()
        self._lock = threading.Lock()
        self._latest: dict[Run, str] = {}
        self._flying: dict[Run, str] = {}

    def note(self, job_id: str, epoch: int, worker: str, progress: str) -> None:
        """Keep the newest progress (JSON text) of a run."""
        with self._lock:
            first = not self._latest
            self._latest[job_id, epoch, worker] = progress
        if first:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to write
                self._main.call_soon_threadsafe(self._noted.set)

    def take(self, job_id: str, epoch: int, worker: str) -> str | None:
        """What may not be written of a run that ends: its settlement carries it."""
        run = job_id, epoch, worker
        with self._lock:
            flying = self._flying.pop(run, None)
            return self._latest.pop(run, flying)

    async def once(self) -> float:
        """A moment after the first word since the last time, write all; returns the seconds until the next call."""
        await self._noted.wait()
        await asyncio.sleep(PERIOD)
        self._noted.clear()
        await self.write()
        return 0.0

    async def write(self) -> None:
        """Write what came since the last time.

        Raises:
            StoreUnavailable: it cannot be written now, and is kept.
        """
        with self._lock:
            latest, self._latest = self._latest, {}
            self._flying = dict(latest)
        if not latest:
            return
        try:
            await self._jobs.set_progress([(*run, text) for run, text in latest.items()])
        except StoreUnavailable:
            with self._lock:
                self._latest = self._flying | self._latest
            self._noted.set()
            raise
        finally:
            self._flying = {}
