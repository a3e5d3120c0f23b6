"""Claims in flight: a row that is claimed and that nobody runs may be on its way here."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from taskflow.core.job import Claim, LaneKey
from taskflow.core.lifecycle import Settlement
from taskflow.flow.heart import boot_seconds
from taskflow.ports.store import Claims, Settled

T = TypeVar("T")


class Flying:
    """Claims whose calls are known while they are in flight: a row that one of them may bring is not given back meanwhile,
    or its run would begin when somebody else has it."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._since: dict[object, float] = {}

    @property
    def longest(self) -> float:
        """Seconds that the oldest call in flight has taken so far; 0 where there is none."""
        return boot_seconds() - min(self._since.values()) if self._since else 0.0

    async def claim(
        self, worker: str, job_ids: Sequence[str], tasks: Sequence[str], *, now: datetime | None = None
    ) -> list[Claim]:
        """As `Claims.claim`."""
        return await self._fly(self._claims.claim(worker, job_ids, tasks, now=now))

    async def draw(
        self,
        worker: str,
        lanes: Sequence[LaneKey],
        tasks: Sequence[str],
        limit: int,
        *,
        queued_before: Mapping[LaneKey, datetime] | None = None,
        isolated: bool = False,
        now: datetime | None = None,
    ) -> list[Claim]:
        """As `Claims.draw`."""
        asked = self._claims.draw(worker, lanes, tasks, limit, queued_before=queued_before, isolated=isolated, now=now)
        return await self._fly(asked)

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        """As `Claims.settle`."""
        return await self._claims.settle(settlements, now=now)

    async def _fly(self, asked: Awaitable[T]) -> T:
        call = object()
        self._since[call] = boot_seconds()
        try:
            return await asked
        finally:
            del self._since[call]
