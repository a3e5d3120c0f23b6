"""Waiting for a job: `Prefer: wait=30` holds the request until the job is over or the time is."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from starlette.requests import Request

from taskflow.core.job import Job, State
from taskflow.ports.events import Events
from taskflow.roles.api.headers import values

_LIVE: Final = frozenset(state.value.encode() for state in State if not state.terminal)
POLL: Final = 2.0
"""Events are hints: the table is looked at this often whatever comes."""
_WAIT: Final = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)


def wanted(request: Request, most: float) -> float | None:
    """Seconds to wait that a request asks for, capped; `None` where it does not. A preference is never an error."""
    found = _WAIT.search(b",".join(values(request.scope, b"prefer")).decode("latin-1"))
    return None if found is None else min(float(found[1]), most)


class Waiting:
    """Holds requests until their jobs are over.

    Args:
        read: a job by its id.
        stopping: ends all waits.
        most: requests that may wait at a time; another one is answered at once.
    """

    def __init__(
        self, read: Callable[[str], Awaitable[Job | None]], events: Events, stopping: asyncio.Event, most: int
    ) -> None:
        self._read = read
        self._events = events
        self._stopping = stopping
        self._most = most
        self._now = 0

    async def over(self, job_id: str, seconds: float) -> Job | None:
        """The job once it is over, or as it is after `seconds`."""
        if seconds <= 0 or self._now >= self._most or self._stopping.is_set():
            return await self._read(job_id)
        self._now += 1
        try:
            return await self._hold(job_id, time.monotonic() + seconds)
        finally:
            self._now -= 1

    async def _hold(self, job_id: str, until: float) -> Job | None:
        async with self._events.subscribe(f"job:{job_id}") as news:
            job = await self._read(job_id)
            if job is None or job.state.terminal:
                return job
            bell = asyncio.Event()
            ringing = asyncio.create_task(_ring(news, bell))
            stopping = asyncio.create_task(self._stopping.wait())
            try:
                while job is not None and not job.state.terminal and not self._stopping.is_set():
                    left = until - time.monotonic()
                    if left <= 0:
                        break
                    heard = asyncio.create_task(bell.wait())
                    await asyncio.wait({heard, stopping}, timeout=min(left, POLL), return_when=asyncio.FIRST_COMPLETED)
                    heard.cancel()
                    bell.clear()
                    job = await self._read(job_id)
                return job
            finally:
                ringing.cancel()
                stopping.cancel()
                await asyncio.wait({ringing, stopping})


async def _ring(news: AsyncIterator[tuple[str, bytes]], bell: asyncio.Event) -> None:
    """Ring for a state that ends the wait; the others are left to the poll."""
    async for _, body in news:
        if body not in _LIVE:
            bell.set()
