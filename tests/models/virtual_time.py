"""A loop whose time jumps to the next timer instead of waiting for it, and the product's clocks set by it."""

from __future__ import annotations

import asyncio
import logging
import random
import selectors
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from taskflow.flow.draw import Drawer
from taskflow.flow.heart import Heart
from taskflow.flow.intake import Intake

BEGIN: Final = 1_000.0


class _Jump(selectors.SelectSelector):
    """Nothing ever comes from outside: whoever would wait for it, waits for the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else, for ever")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs a minute in a moment, the same way each time."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Seconds, virtual."""
        return self._jump.now


class _LoopHeart(Heart):
    """The heart on the main loop: a thread of its own would beat whenever the machine likes."""

    def start(self) -> None:
        self._beating = asyncio.get_running_loop().create_task(self._beat_for_ever())

    async def stop(self) -> None:
        self._stop.set()
        self._wake()
        await asyncio.wait([self._beating])


async def pause(seconds: float) -> None:
    """Let virtual time pass."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    timer = loop.call_later(seconds, over.set_result, None)
    try:
        await over
    finally:
        timer.cancel()


@contextmanager
def virtual_time(seed: int) -> Iterator[VirtualLoop]:
    """A loop, and the product's clocks, names and dice set by it and by the seed."""
    loop, names, state = VirtualLoop(), count(1), random.getstate()
    # The loop would say that a virtual hour was a slow callback.
    loop.slow_callback_duration = float("inf")
    logger = logging.getLogger("taskflow")
    level = logger.level
    with ExitStack() as stack:
        for name in ("taskflow.flow.heart", "taskflow.roles.worker", "taskflow.roles.consumer"):
            stack.enter_context(patch(f"{name}.boot_seconds", loop.time))
        for name in ("taskflow.flow.upkeep", "taskflow.roles.scheduler"):
            stack.enter_context(patch(f"{name}.time", SimpleNamespace(monotonic=loop.time)))
        stack.enter_context(patch("taskflow.roles.worker.new_id", lambda: f"{next(names):08}"))
        stack.enter_context(patch("taskflow.roles.worker.Heart", _LoopHeart))
        stack.enter_context(patch.object(Intake.__init__, "__defaults__", (loop.time,)))
        stack.enter_context(patch.dict(Drawer.__init__.__kwdefaults__ or {}, clock=loop.time))
        random.seed(seed)
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield loop
        finally:
            logger.setLevel(level)
            random.setstate(state)
            loop.close()
