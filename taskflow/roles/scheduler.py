"""The scheduler role: promotes what is due, sweeps what is stuck, deletes what is old. Needs no leader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from taskflow.flow.loops import keep
from taskflow.flow.upkeep import Promoter, Retainer, Sweeper
from taskflow.roles.stop import Stop

TICK: Final = 30.0


class Scheduler:
    """Runs the three upkeep loops; the database lets any number of them run at once."""

    def __init__(self, promoter: Promoter, sweeper: Sweeper, retainer: Retainer) -> None:
        self._promoter = promoter
        self._sweeper = sweeper
        self._retainer = retainer
        self._ticked = 0.0

    async def run(self, stop: Stop, started: Callable[[], None]) -> None:
        """Keep house until asked to stop."""
        self._ticked = time.monotonic()
        loops = [
            asyncio.create_task(keep("promote", self._promote, self._promoter.bell)),
            asyncio.create_task(keep("sweep", self._sweeper.once)),
            asyncio.create_task(keep("retain", self._retainer.once)),
        ]
        started()
        try:
            await stop.asked.wait()
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    def ready(self) -> str | None:
        """Why the scheduler does not work, or `None` where it does."""
        silent = time.monotonic() - self._ticked
        return f"no promotion for {silent:.0f} s" if silent > TICK else None

    async def _promote(self) -> float:
        pause = await self._promoter.once()
        self._ticked = time.monotonic()
        return pause
