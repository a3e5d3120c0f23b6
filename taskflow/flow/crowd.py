"""How many workers are alive, as last seen: a guess that is good enough to size messages by."""

from __future__ import annotations

from typing import Final

from taskflow.ports.store import Workers

PERIOD: Final = 10.0


class Crowd:
    """Counts the living in the background, so that nobody asks the store on a hot path."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._alive = 0

    def count(self) -> int:
        """Live workers when they were last counted; 0 where that is not known."""
        return self._alive

    async def once(self) -> float:
        """Count.

        Returns:
            Seconds until the next count.
        """
        try:
            self._alive = sum(worker.state == "alive" for worker in await self._workers.workers())
        except Exception:
            # An old count would pack messages for workers that may be gone.
            self._alive = 0
            raise
        return PERIOD
