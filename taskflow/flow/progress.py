"""Progress: the latest word of each run, written at most twice a second for all of them together."""

from __future__ import annotations

import threading
from typing import Final

from taskflow.ports.store import Jobs

PERIOD: Final = 0.5


class ProgressWriter:
    """Collects from any thread, writes from the main loop."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._latest: dict[tuple[str, int, str], str] = {}

    def note(self, job_id: str, epoch: int, worker: str, progress: str) -> None:
        """Keep the newest progress (JSON text) of a run."""
        with self._lock:
            self._latest[job_id, epoch, worker] = progress

    def take(self, job_id: str, epoch: int, worker: str) -> str | None:
        """What was not written of a run that ends: its settlement carries it."""
        with self._lock:
            return self._latest.pop((job_id, epoch, worker), None)

    async def once(self) -> float:
        """Write what came since the last round; returns seconds until the next."""
        with self._lock:
            latest, self._latest = self._latest, {}
        if latest:
            await self._jobs.set_progress([(*run, text) for run, text in latest.items()])
        return PERIOD
