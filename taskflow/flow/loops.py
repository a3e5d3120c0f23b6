"""Loops that survive their own exceptions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from taskflow.core.outage import Outage, backoff

__all__ = ["LONGEST", "Bell", "Outage", "backoff", "keep"]

LONGEST: Final = 60.0
"""No timer sleeps longer, so that a clock step or a long delay never strands a loop."""

AT_LEAST: Final = 1.0
"""Seconds of the pause after a failure that no bell shortens."""

log = logging.getLogger("taskflow")


class Bell:
    """Wakes a waiting loop; a ring while nobody waits is kept."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the loop now, or keep its next wait from waiting."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Until the next ring, `seconds` at most."""
        if seconds > 0 and not self._event.is_set():
            try:
                async with asyncio.timeout(min(seconds, LONGEST)):
                    await self._event.wait()
            except TimeoutError:
                pass
        self._event.clear()


async def keep(name: str, once: Callable[[], Awaitable[float]], bell: Bell | None = None) -> None:
    """Call `once` for ever; it returns the seconds until its next call. An exception is logged and backed off.

    Args:
        name: what it is, for the log.
        once: one round.
        bell: calls it sooner.
    """
    bell = bell or Bell()
    outage = Outage(name)
    while True:
        try:
            pause = await once()
            outage.back()
        except Exception as error:
            pause = outage.lost(error)
            log.debug("%s failed", name, exc_info=True)
            # A bell that rings for work must not make the loop spin which cannot do it.
            rest = min(pause, AT_LEAST)
            await asyncio.sleep(rest)
            pause -= rest
        await bell.wait(pause)
        # A bell that always rings must not keep every other task from its turn.
        await asyncio.sleep(0)
