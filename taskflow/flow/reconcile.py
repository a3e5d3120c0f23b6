"""Reconcile: what the store says I run against what I run, both ways, at each beat."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from taskflow.core.job import Claim, LaneKey
from taskflow.core.lifecycle import Settlement
from taskflow.flow.heart import boot_seconds
from taskflow.ports.store import Claims, Held, Settled

T = TypeVar("T")

Run = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Differences:
    """What to do: runs to cancel, runs that are no longer mine, rows to give back."""

    cancel: Sequence[Run]
    lost: Sequence[Run]
    release: Sequence[Run]


def differences(
    held: Sequence[Held], running: Mapping[Run, float], settling: Collection[Run], *, asked: float, patience: float
) -> Differences:
    """Compare a beat's answer with this worker.

    Args:
        held: rows that the store says this worker runs.
        running: runs in progress and when they were started.
        settling: endings on their way to the store.
        asked: when the beat was sent, on the clock of `running`.
        patience: seconds after which a claimed row that nobody runs is given back.
    """
    listed = {(row.job_id, row.epoch): row for row in held}
    return Differences(
        cancel=[run for run, row in listed.items() if row.cancel_requested and run in running],
        lost=[run for run, started in running.items() if run not in listed and started < asked],
        release=[
            run for run, row in listed.items() if run not in running and run not in settling and row.age > patience
        ],
    )


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
