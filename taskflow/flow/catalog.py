"""The catalogue as the API remembers it: fresh enough to admit, asked again before a name is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from taskflow.core.errors import Invalid, StoreUnavailable
from taskflow.core.job import Idempotency, NewJob
from taskflow.flow.admit import Snapshot, UnknownName, admit
from taskflow.ports.clock import Clock
from taskflow.ports.store import Catalogue
from taskflow.tasks.jsonread import Document

FRESH: Final = 10.0
MISS: Final = 1.0
TURN: Final = 100
"""Jobs of a batch that are admitted, or answered for, before others have a turn: a whole one takes as long as a hundred requests."""
PATIENCE: Final = 1.5
"""Seconds for a look: whoever submits is answered in time."""


class Catalog:
    """Admits jobs against a snapshot that is at most 10 s old, and at most 1 s old where a name is not in it."""

    def __init__(self, catalogue: Catalogue, clock: Clock, ticks: Callable[[], float] = time.monotonic) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._ticks = ticks
        self._reading: asyncio.Task[Snapshot] | None = None
        self._snapshot: Snapshot | None = None

    async def admit(self, document: Document, key: Idempotency | None = None) -> NewJob:
        """The job of a submit body.

        Raises:
            Invalid: names every field that is wrong.
            StoreUnavailable: the store does not tell what there is.
        """
        try:
            return admit(document, await self.snapshot(), self._clock.now(), idempotency=key)
        except UnknownName:
            return admit(document, await self.snapshot(MISS), self._clock.now(), idempotency=key)

    async def admit_many(self, items: Iterable[tuple[Document, Idempotency | None]]) -> list[NewJob | Invalid]:
        """The job of each, or what is wrong with it.

        Raises:
            StoreUnavailable: the store does not tell what there is.
        """
        snapshot, now = await self.snapshot(), self._clock.now()
        admitted: list[NewJob | Invalid] = []
        for document, key in items:
            # To refuse one takes as long as to admit many.
            if len(admitted) % TURN == TURN - 1 or (admitted and isinstance(admitted[-1], Invalid)):
                await asyncio.sleep(0)
            try:
                admitted.append(admit(document, snapshot, now, idempotency=key))
            except UnknownName:
                snapshot = await self.snapshot(MISS)
                try:
                    admitted.append(admit(document, snapshot, now, idempotency=key))
                except Invalid as error:
                    admitted.append(error)
            except Invalid as error:
                admitted.append(error)
        return admitted

    async def snapshot(self, oldest: float = FRESH) -> Snapshot:
        """What is known, at most `oldest` seconds old. All who ask meanwhile share one look.

        Raises:
            StoreUnavailable: there is nothing so fresh, and the store does not tell in time.
        """
        kept = self._snapshot
        if kept is not None and self._ticks() - kept.taken <= oldest:
            return kept
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._looked)
        # Whoever leaves does not take it from the others.
        return await asyncio.shield(self._reading)

    async def _read(self) -> Snapshot:
        taken = self._ticks()
        try:
            async with asyncio.timeout(PATIENCE):
                tasks, queues = await asyncio.gather(self._catalogue.tasks(), self._catalogue.queue_names())
        except TimeoutError:
            raise StoreUnavailable("the store did not tell of its tasks in time") from None
        return Snapshot({task.name: task for task in tasks}, frozenset(queues), taken)

    def _looked(self, reading: asyncio.Task[Snapshot]) -> None:
        forgotten = self._reading is not reading
        if not forgotten:
            self._reading = None
        # An error goes to those who wait, if anybody still does.
        if not reading.cancelled() and reading.exception() is None and not forgotten:
            self._snapshot = reading.result()

    def forget(self) -> None:
        """Something changed: read again before the next use."""
        self._snapshot = self._reading = None
