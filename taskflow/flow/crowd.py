"""How many workers are alive, and how large, as last seen: a guess that is good enough to size messages by."""

from __future__ import annotations

from typing import Final

from taskflow.core.job import RunsIn
from taskflow.flow.loops import Bell
from taskflow.ports.store import Workers

PERIOD: Final = 10.0


class Crowd:
    """Counts the living in the background, so that nobody asks the store on a hot path.

    Attributes:
        bell: has them counted soon.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.bell = Bell()
        self._alive: frozenset[str] = frozenset()
        self._slots: dict[RunsIn, int] = {}

    def count(self) -> int:
        """Live workers when they were last counted; 0 where that is not known."""
        return len(self._alive)

    def only(self, worker: str) -> bool:
        """Whether this worker was the only one when they were last counted."""
        return self._alive == {worker}

    def slots(self, kind: RunsIn) -> int:
        """What the smallest of them could run at a time of a kind; 0 where that is not known."""
        return self._slots.get(kind, 0)

    async def once(self) -> float:
        """Count.

        Returns:
            Seconds until the next count.
        """
        try:
            alive = [worker for worker in await self._workers.workers() if worker.state == "alive"]
            self._slots = {kind: min((w.slots.get(kind.value, 0) for w in alive), default=0) for kind in RunsIn}
            self._alive = frozenset(worker.id for worker in alive)
        except Exception:
            # An old count may be of workers that are gone.
            self._alive, self._slots = frozenset(), {}
            raise
        return PERIOD
