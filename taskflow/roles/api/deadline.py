"""Deadlines of requests, with one timer for all of them: a timer for each would cost as much as reading its body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


class Deadline:
    """So long may anything take that is awaited under it.

    Args:
        seconds: as of the await, for each.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In the order of their ends, since all have the same time.
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, work: Awaitable[T]) -> T:
        """Await it.

        Raises:
            TimeoutError: it took too long, and was cancelled.
        """
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._ends[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            if self._leave(task) and not task.cancelling():
                raise TimeoutError from None
            raise
        finally:
            self._leave(task)

    def _leave(self, task: asyncio.Task[Any]) -> bool:
        """Whether it was late; then the cancel that was ours is taken back."""
        self._ends.pop(task, None)
        if task not in self._late:
            return False
        self._late.discard(task)
        task.uncancel()
        return True

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for task, end in self._ends.items():
            if end > now:
                self._timer = loop.call_at(end, self._look, loop)
                return
            if task not in self._late:
                self._late.add(task)
                task.cancel()
