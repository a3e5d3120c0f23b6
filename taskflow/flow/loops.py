"""Loops that survive their own exceptions, and outages that are told once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

LONGEST: Final = 60.0
"""No timer sleeps longer, so that a clock step or a long delay never strands a loop."""

log = logging.getLogger("taskflow")


def backoff(failures: int, base: float = 0.1, cap: float = 15.0) -> float:
    """Seconds to wait after so many failures in a row: doubling, clamped before the power is taken, jittered."""
    doubled: float = min(cap, base * 2.0 ** min(failures - 1, 32))
    return doubled * random.uniform(0.5, 1)


class Outage:
    """Logs one line when a thing is lost and one when it is back."""

    def __init__(self, thing: str) -> None:
        self.thing = thing
        self.failures = 0

    def lost(self, error: BaseException) -> float:
        """Note a failure.

        Returns:
            Seconds to wait before the next try.
        """
        self.failures += 1
        if self.failures == 1:
            log.warning("%s lost: %s", self.thing, error or type(error).__name__)
        return backoff(self.failures)

    def back(self) -> None:
        """Note that it works."""
        if self.failures:
            log.warning("%s is back after %d failures", self.thing, self.failures)
            self.failures = 0


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
        await bell.wait(pause)
        # A bell that always rings must not keep every other task from its turn.
        await asyncio.sleep(0)
