"""The catalogue as the API remembers it: fresh enough to admit, asked again before a name is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from taskflow.core.job import Idempotency, NewJob
from taskflow.flow.admit import Snapshot, UnknownName, admit
from taskflow.ports.clock import Clock
from taskflow.ports.store import Catalogue
from taskflow.tasks.jsontext import Document

FRESH: Final = 10.0
MISS: Final = 1.0


class Catalog:
    """Admits jobs against a snapshot that is at most 10 s old, and at most 1 s old where a name is not in it."""

    def __init__(self, catalogue: Catalogue, clock: Clock, ticks: Callable[[], float] = time.monotonic) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._ticks = ticks
        self._reading = asyncio.Lock()
        self._snapshot: Snapshot | None = None

    async def admit(self, document: Document, key: Idempotency | None = None) -> NewJob:
        """The job of a submit body.

        Raises:
            Invalid: names every field that is wrong.
        """
        try:
            return admit(document, await self.snapshot(), self._clock.now(), idempotency=key)
        except UnknownName:
            return admit(document, await self.snapshot(MISS), self._clock.now(), idempotency=key)

    async def snapshot(self, oldest: float = FRESH) -> Snapshot:
        """What is known, at most `oldest` seconds old."""
        kept = self._snapshot
        if kept is None or self._ticks() - kept.taken > oldest:
            async with self._reading:
                if self._snapshot is kept:
                    taken = self._ticks()
                    tasks = {task.name: task for task in await self._catalogue.tasks()}
                    self._snapshot = Snapshot(tasks, frozenset(await self._catalogue.queue_names()), taken)
        assert self._snapshot is not None
        return self._snapshot

    def forget(self) -> None:
        """Something changed: read again before the next use."""
        self._snapshot = None
