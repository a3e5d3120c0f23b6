"""The store: the table is the truth and the queue of last resort.

Every instant is the store's: methods take `now` only so that tests can move it (`None` = the store's clock) and write
`coalesce(now, clock)`. Writes of many rows lock in id order. All methods raise `StoreUnavailable` when the store cannot
be reached or cannot write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from taskflow.core.job import Claim, Job, LaneKey, NewJob, RunsIn, State, Ticket
from taskflow.core.lifecycle import Settlement
from taskflow.ports.upkeep import Promoted, Retained, Swept, Upkeep


class Inserted(NamedTuple):
    """What became of one submitted row. `created` is false where its idempotency key was there already: `job_id` and
    `fingerprint` are then the first one's. `ticket` is set where the row is queued."""

    job_id: str
    created: bool
    state: State
    created_at: datetime
    run_at: datetime | None
    fingerprint: str | None = None
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs to list, newest first unless `ascending`, keyset-paged by (created_at, id) after `after`."""

    tenant: str
    limit: int
    states: frozenset[State] = frozenset()
    task: str | None = None
    queue: str | None = None
    tag: str | None = None
    error_type: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    ascending: bool = False
    after: tuple[datetime, str] | None = None


class Jobs(Protocol):
    """Submit, look at, cancel and replay jobs."""

    async def insert(self, jobs: Sequence[NewJob], *, now: datetime | None = None) -> list[Inserted]:
        """Store a batch in one transaction, all or none; answers in the order asked.

        A row whose idempotency key (tenant, route, key) is taken and not past its expiry is not stored again. A store
        that can lose a reply finds out by the jobs' ids what became of the batch before it answers, within 2 s.

        Raises:
            DataRejected: some row can never be stored; nothing was.
            StoreUnavailable: it is not known to be stored; whether it was will show under its id.
        """
        ...

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """One job with its attempts, live or finished."""
        ...

    async def age(self, moment: datetime, *, now: datetime | None = None) -> float:
        """Seconds since an instant that the store told."""
        ...

    async def find(self, query: JobQuery) -> list[Job]:
        """Jobs without their attempts, live and finished merged in one snapshot."""
        ...

    async def cancel(self, tenant: str, job_id: str, *, now: datetime | None = None) -> Job | None:
        """Ask for cancellation: `cancelled` at once unless running, then the flag. Returns the job afterwards (a
        terminal one unchanged), `None` where there is none."""
        ...

    async def replay(
        self, tenant: str, job_id: str, payload: str | None = None, *, now: datetime | None = None
    ) -> tuple[Job, Ticket] | None:
        """failed -> queued by compare-and-set, with a fresh budget and, if given, another payload. `None`: no such job.

        Raises:
            Conflict: the job is not failed.
        """
        ...

    async def purge(self, tenant: str, job_ids: Sequence[str]) -> list[str]:
        """Delete failed jobs with their attempts, keys, log and artifact rows; returns the ids that were deleted."""
        ...

    async def set_progress(self, progress: Sequence[tuple[str, int, str, str]]) -> None:
        """Write (job_id, epoch, worker, progress JSON) where the token still holds; others are dropped."""
        ...


class Settled(NamedTuple):
    """What a settlement did: `state` is what was written (a cancel flag may have changed it), `None` where the token no
    longer held (a zombie). `ticket` is set where the job is queued again."""

    job_id: str
    epoch: int
    state: State | None
    ticket: Ticket | None = None


class Claims(Protocol):
    """The right to run, by compare-and-set with a fencing token (epoch, worker)."""

    async def claim(
        self, worker: str, job_ids: Sequence[str], tasks: Sequence[str], *, now: datetime | None = None
    ) -> list[Claim]:
        """queued -> running for those of `job_ids` that are queued, of a known task, not paused, not expired and not to
        be isolated, if `worker` is alive. Counts the attempt, raises the epoch, sets `deadline_at`."""
        ...

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
        """Claim the oldest queued rows straight from the table, lanes in the order given, under claim's conditions.

        Args:
            queued_before: only rows of a lane queued before this instant (for a busy worker, per lane).
            isolated: only jobs that must run isolated, instead of only the others.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        """End epochs by token, in one transaction, and move what is over to `finished`; answers in the order asked.

        Writes one attempt row each. Repeating a settlement that was written answers the state it wrote.

        Raises:
            DataRejected: some row can never be stored; nothing was.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One process with the consumer role. `lease`: seconds of silence after which it is dead; it stops its runs before.
    A store takes a lease that no setting allows for the longest one."""

    id: str
    host: str
    pid: int
    queues: Sequence[str]
    tasks: Sequence[str]
    slots: Mapping[str, int]
    lease: float
    state: str = "alive"
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A row that the store says this worker is running; `age` is seconds since its claim."""

    job_id: str
    epoch: int
    cancel_requested: bool
    age: float


@dataclass(frozen=True, slots=True)
class Beat:
    """Answer to a beat. Not `alive`: declared dead meanwhile; fence everything, register under a new id."""

    alive: bool
    held: Sequence[Held] = ()


class Workers(Protocol):
    """Registration and beats. Only who is dead is decided by time, and only by the sweep."""

    async def register(self, worker: WorkerInfo, *, now: datetime | None = None) -> list[Ticket]:
        """Add a worker under its new id; its tasks' rows waiting for a worker are queued again (their tickets)."""
        ...

    async def beat(self, worker: str, *, now: datetime | None = None) -> Beat:
        """Prove life, and hear which rows the store thinks I run."""
        ...

    async def release(
        self, worker: str, runs: Sequence[tuple[str, int]], *, now: datetime | None = None
    ) -> list[Ticket]:
        """Give back rows claimed by me that I do not run (job_id, epoch): interruption, attempt not charged."""
        ...

    async def stop(self, worker: str, *, now: datetime | None = None) -> list[Ticket]:
        """Mark a clean end; rows it still holds are given back as interruptions."""
        ...

    async def workers(self) -> list[WorkerInfo]:
        """Workers alive, and those that ended within the last day; newest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """A task as the catalogue knows it: `schema` is its JSON Schema as text; `timeout` in seconds."""

    name: str
    queue: str
    runs_in: RunsIn
    schema: str
    timeout: float
    max_attempts: int
    description: str = ""
    live_workers: int = 0
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """A queue and what stands in it. `depth` counts to 10,000; `depth_capped` says there are more. `oldest` is seconds
    that its oldest queued job has waited."""

    name: str
    paused: bool = False
    pause_reason: str | None = None
    depth: int = 0
    depth_capped: bool = False
    running: int = 0
    oldest: float | None = None


class Catalogue(Protocol):
    """What workers can run and where it may be queued, so that an API process imports no user code."""

    async def publish_tasks(self, tasks: Sequence[TaskInfo], *, now: datetime | None = None) -> None:
        """Insert or update tasks by name, and create the queues they name."""
        ...

    async def tasks(self) -> list[TaskInfo]:
        """All known tasks by name, with how many live workers list each."""
        ...

    async def ensure_queues(self, names: Sequence[str]) -> None:
        """Create queues that do not exist."""
        ...

    async def queue_names(self) -> dict[str, bool]:
        """Every queue and whether it is paused (cheap: no counting)."""
        ...

    async def queues(self) -> list[QueueInfo]:
        """Every queue with depth, running and oldest."""
        ...

    async def pause(self, queue: str, reason: str | None) -> bool:
        """Stop claims from a queue; false where there is no such queue."""
        ...

    async def resume(self, queue: str) -> bool:
        """Allow claims again; false where there is no such queue."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Where some log lines of one epoch are: bytes `[offset, offset + length)` of an object, NDJSON."""

    job_id: str
    epoch: int
    seq: int
    object: str
    offset: int
    length: int
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactInfo:
    """A file that a handler kept."""

    job_id: str
    name: str
    object: str
    content_type: str
    size: int
    sha256: str
    created_at: datetime | None = None


class Files(Protocol):
    """The index of what lies in the object store."""

    async def add_segments(self, segments: Sequence[Segment], *, now: datetime | None = None) -> None:
        """Index log segments; a repeated (job, epoch, seq) is ignored."""
        ...

    async def segments(self, job_id: str, epoch: int | None = None) -> list[Segment]:
        """Segments of a job in (epoch, seq) order."""
        ...

    async def put_artifact(self, artifact: ArtifactInfo, *, now: datetime | None = None) -> None:
        """Index a file; the same (job, name) again replaces it."""
        ...

    async def artifacts(self, job_id: str) -> list[ArtifactInfo]:
        """Files of a job by name."""
        ...


class StateStore(Jobs, Claims, Workers, Catalogue, Upkeep, Files, Protocol):
    """The whole store, as the wiring opens it; every user is typed by the small port it needs."""

    def heart(self) -> AbstractAsyncContextManager[Workers]:
        """A connection of its own for beats, opened on the loop (and thread) that beats."""
        ...

    async def ping(self) -> None:
        """Prove that the store answers and can write.

        Raises:
            StoreUnavailable: it does not.
        """
        ...

    async def revision(self) -> str | None:
        """The schema revision that is installed."""
        ...


__all__ = [
    "ArtifactInfo",
    "Beat",
    "Catalogue",
    "Claims",
    "Files",
    "Held",
    "Inserted",
    "JobQuery",
    "Jobs",
    "Promoted",
    "QueueInfo",
    "Retained",
    "Segment",
    "Settled",
    "StateStore",
    "Swept",
    "TaskInfo",
    "Upkeep",
    "WorkerInfo",
    "Workers",
]
