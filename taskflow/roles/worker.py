"""A worker's identity: registered, beating, fenced, and registered anew when it was declared dead."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from taskflow.core.ids import new_id
from taskflow.core.job import Ticket
from taskflow.flow.heart import Heart, boot_seconds
from taskflow.flow.loops import Outage
from taskflow.ports.store import Beat, WorkerInfo, Workers

log = logging.getLogger("taskflow")


@dataclass(frozen=True, slots=True)
class Lease:
    """Seconds that fit together: `beat` and `fence` are well inside `length`."""

    length: float
    beat: float
    fence: float


class Worker:
    """Keeps this process registered as a live worker.

    Args:
        workers: the store, for everything but beats.
        connect: opens the store's own connection for beats.
        describe: a worker row for an id.
        heard: called on the main loop with each answer of a living worker and when it was asked.
        fence: called on the main loop when this worker must stop what it runs.
        tickets: takes tickets of rows that are queued again.
        announce: says which tasks there are, before each registration: the store may have forgotten all of it.
    """

    def __init__(
        self,
        workers: Workers,
        connect: Callable[[], AbstractAsyncContextManager[Workers]],
        lease: Lease,
        *,
        describe: Callable[[str], WorkerInfo],
        heard: Callable[[Beat, float], None],
        fence: Callable[[], None],
        tickets: Callable[[Sequence[Ticket]], None],
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        self._workers = workers
        self._connect = connect
        self._lease = lease
        self._describe = describe
        self._heard = heard
        self._fence = fence
        self._tickets = tickets
        self._announce = announce
        self._heart: Heart | None = None
        self._again: asyncio.Task[None] | None = None
        self._stopping = False
        self.id = ""
        self.last_beat = 0.0

    async def register(self) -> None:
        """Take a new id and begin to beat."""
        worker = f"{socket.gethostname()[:40]}-{os.getpid()}-{new_id()[-8:]}"
        await self._announce()
        self._tickets(await self._workers.register(self._describe(worker)))
        self.id, self.last_beat = worker, boot_seconds()
        self._heart = Heart(
            self._connect,
            worker,
            period=self._lease.beat,
            fence_after=self._lease.fence,
            heard=self._on_beat,
            fence=self._fence,
        )
        self._heart.start()

    async def stop(self) -> None:
        """End cleanly: what the store still holds for this worker is an interruption. Beats stop last."""
        self._stopping = True
        if self._again:
            self._again.cancel()
        if self.id:
            async with asyncio.timeout(5):
                self._tickets(await self._workers.stop(self.id))
        if self._heart:
            await self._heart.stop()

    def _on_beat(self, beat: Beat, asked: float) -> None:
        if self._stopping:
            return
        if beat.alive:
            self.last_beat = asked
            self._heard(beat, asked)
        elif self._again is None or self._again.done():
            log.warning("worker %s was declared dead: its runs are stopped and it registers anew", self.id)
            self._fence()
            self._again = asyncio.get_running_loop().create_task(self._register_again())

    async def _register_again(self) -> None:
        outage = Outage("store (register)")
        while True:
            try:
                await self.register()
                return
            except Exception as error:
                await asyncio.sleep(outage.lost(error))
