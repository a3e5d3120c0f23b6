"""Questions about a whole store, for whoever checks it. A store may have them beside `StateStore`; nothing else needs them.

All are cheap however many jobs there are: what grows without end is looked at by its newest rows only, or its oldest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

from taskflow.core.job import LaneKey, RunsIn, State
from taskflow.ports.store import WorkerInfo

SAMPLE: Final = 1_000
"""Newest rows of a table that are looked at."""
OLDEST: Final = 10_000
"""Oldest live rows of a state that are looked at: what is stuck grows old."""
LATE: Final = 10.0
"""Seconds behind its time after which a row is late."""


class Odd(StrEnum):
    """What a row can be that it should not be for long, or ever."""

    ORPHAN_RUN = "orphan_run"
    """Running by a worker that is not alive."""
    OVERDUE_RUN = "overdue_run"
    """Running `LATE` past its deadline."""
    DUE = "due"
    """Scheduled or retrying, `LATE` past its time."""
    TOKENLESS_RUN = "tokenless_run"
    """Running without worker, epoch, start or deadline."""
    CLOSED_RUN = "closed_run"
    """Running an epoch that has its closing record."""
    NOT_LIVE = "not_live"
    """In the live table in a state that is over for good."""
    TWICE = "twice"
    """Finished, and live or finished once more."""
    UNCLOSED = "unclosed"
    """Over, and its last epoch has no closing record."""
    CLOSED_TWICE = "closed_twice"
    """One epoch with two closing records."""
    CLOSED_BEYOND = "closed_beyond"
    """Closing records of an epoch that the job never had."""
    ATTEMPT_OF_NOBODY = "attempt_of_nobody"
    """Closing records of a job that is not there."""
    KEY_OF_NOBODY = "key_of_nobody"
    """An idempotency key of a job that is not there."""
    UNSOUND = "unsound"
    """Live, with values that every statement over many rows leaves alone."""
    UNREADABLE = "unreadable"
    """Queued, with values that no claim can read."""
    UNDRAWABLE = "undrawable"
    """Queued in a lane of no queue, or without an instant at which it was: no draw finds it."""
    UNDATED = "undated"
    """Scheduled or retrying, without an instant that comes."""
    UNPARKABLE = "unparkable"
    """Waiting for nothing that may come."""


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that the store holds for alive: seconds since its last beat, and how many it runs of each kind."""

    info: WorkerInfo
    silent: float
    running: Mapping[RunsIn, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a store stands.

    Attributes:
        now: its clock.
        swept: seconds since the last sweep, `None` where there never was one.
        workers: those that are not known to be dead.
        unrunnable: how many jobs wait for a worker, by task; of 10,000 at most.
    """

    now: datetime
    swept: float | None
    workers: Sequence[LiveWorker]
    unrunnable: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job that any worker of its task may run; `age` in seconds."""

    id: str
    task: str
    runs_in: RunsIn
    age: float


@runtime_checkable
class Audit(Protocol):
    """Looks, and changes nothing. Raises `StoreUnavailable` as every store does."""

    async def standing(self, *, now: datetime | None = None) -> Standing:
        """Clock, sweeps and workers."""
        ...

    async def odd(self, kind: Odd, limit: int, *, now: datetime | None = None) -> list[str]:
        """Ids of jobs that are odd in this way."""
        ...

    async def fronts(self, limit: int, *, now: datetime | None = None) -> dict[LaneKey, list[Waiting]]:
        """The oldest queued jobs of each lane of each queue that is not paused; none that is spoilt."""
        ...

    async def newest(self, limit: int) -> list[tuple[str, State, int]]:
        """(id, state, epoch) of the jobs that finished last, and of the live ones that were submitted last."""
        ...

    async def log_objects(self, limit: int, before: str | None = None) -> list[str]:
        """Objects that hold logs, newest first."""
        ...

    async def file_objects(
        self, limit: int, before: tuple[str, str] | None = None
    ) -> list[tuple[tuple[str, str], str]]:
        """((job_id, name), object) of files that handlers kept, newest job first."""
        ...

    async def named(self, objects: Sequence[str], job_ids: Sequence[str]) -> set[str]:
        """Those of `objects` that some row names; files are looked for among those of `job_ids`."""
        ...
