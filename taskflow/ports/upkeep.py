"""The store's part that keeps house; see `taskflow.ports.store`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from taskflow.core.job import State, Ticket


@dataclass(frozen=True, slots=True)
class Promoted:
    """Rows that fell due: their tickets, and seconds until the next one is due (`None`: nothing scheduled)."""

    tickets: Sequence[Ticket]
    next_due: float | None
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one sweep changed. `changed` holds (job_id, state) for events. `in_grace`: some live worker has not had its
    lease to be heard yet since sweeps had a gap, so that its silence proves nothing."""

    tickets: Sequence[Ticket] = ()
    dead_workers: Sequence[str] = ()
    rescued: int = 0
    expired: int = 0
    parked: int = 0
    unparked: int = 0
    changed: Sequence[tuple[str, State]] = ()
    in_grace: bool = False


@dataclass(frozen=True, slots=True)
class Retained:
    """What a pass of retention left to do: objects that no row names any more, and whether more rows are past their
    time."""

    objects: Sequence[str] = ()
    more: bool = False


class Upkeep(Protocol):
    """Recovery and housekeeping as standing conditions over the database, for any replica at any time."""

    async def promote(self, limit: int = 500, *, now: datetime | None = None) -> Promoted:
        """scheduled and retrying rows that are due become queued."""
        ...

    async def sweep(self, gap: float, *, limit: int = 500, now: datetime | None = None) -> Swept:
        """Declare workers dead that were silent for their own lease, rescue their rows and rows past their deadline,
        expire, park rows whose task no live worker lists (`waiting`, reason `no_worker`) and bring back those whose task
        has one.

        Args:
            gap: seconds. Where the last sweep is longer ago, or lies ahead, nobody watched: each worker has its whole
                lease from now on to be heard, and so has who runs what is past its deadline.
        """
        ...

    async def adopt(self, *, now: datetime | None = None) -> Swept:
        """Embedded only: the caller holds the data directory's lock, so every worker row but none is dead: mark them so
        and rescue their rows at once, charging a crash."""
        ...

    async def retain(self, seconds: float, *, limit: int = 500, now: datetime | None = None) -> Retained:
        """Delete finished jobs older than `seconds` with their side rows, and expired keys, in one batch of each. A store
        that keeps them by the day may keep the last of a day until all of it is old."""
        ...


__all__ = ["Promoted", "Retained", "Swept", "Upkeep"]
