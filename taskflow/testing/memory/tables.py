"""What is remembered: a row for each job, the closing record of each epoch, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from taskflow.core.errors import DataRejected
from taskflow.core.job import Attempt, Claim, ErrorInfo, Job, Lane, LaneKey, NewJob, State, Ticket
from taskflow.ports.store import ArtifactInfo, QueueInfo, Segment, TaskInfo, WorkerInfo

DUE_LATER: Final = frozenset({State.SCHEDULED, State.RETRYING})
NOT_STARTED: Final = DUE_LATER | {State.WAITING, State.QUEUED}


@dataclass(slots=True, kw_only=True)
class Row:
    """A job. `asked` is what was submitted; `expires_at` and `payload` may change by a replay."""

    asked: NewJob
    state: State
    payload: str
    created_at: datetime
    expires_at: datetime | None
    run_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    deadline_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    worker: str | None = None
    epoch: int = 0
    run: int = 1
    attempt: int = 0
    attempts_before_run: int = 0
    crashes: int = 0
    interruptions: int = 0
    snoozes: int = 0
    reason: str | None = None
    result: str | None = None
    error: ErrorInfo | None = None
    progress: str | None = None

    @property
    def id(self) -> str:
        """The job's."""
        return self.asked.id

    @property
    def lane(self) -> LaneKey:
        """Where it queues."""
        return LaneKey(self.asked.queue, Lane.of(self.asked.priority))

    @property
    def over(self) -> bool:
        """Whether nothing can change it any more."""
        return self.state.terminal and self.state is not State.FAILED

    def queue(self, now: datetime, reason: str | None = None) -> Ticket:
        """It may run from now on."""
        self.state, self.reason, self.queued_at = State.QUEUED, reason, now
        return self.ticket()

    def close_waiting(self, state: State, now: datetime) -> None:
        """It is over without having been started again."""
        self.state, self.reason, self.finished_at = state, state.value, now

    def ticket(self) -> Ticket:
        """The ticket of a queued row."""
        assert self.queued_at is not None
        return Ticket(self.id, self.lane, self.asked.runs_in, self.queued_at)

    def claim(self) -> Claim:
        """The right to run of whoever has just started it."""
        assert self.worker is not None
        assert self.started_at is not None
        return Claim(
            id=self.id,
            tenant=self.asked.tenant,
            task=self.asked.task,
            queue=self.asked.queue,
            priority=self.asked.priority,
            payload=self.payload,
            epoch=self.epoch,
            worker=self.worker,
            attempt=self.attempt,
            tries=self.attempt - self.attempts_before_run,
            max_attempts=self.asked.max_attempts,
            timeout=self.asked.timeout,
            run=self.run,
            crashes=self.crashes,
            interruptions=self.interruptions,
            snoozes=self.snoozes,
            tags=self.asked.tags,
            metadata=self.asked.metadata,
            created_at=self.created_at,
            started_at=self.started_at,
        )

    def document(self, attempts: tuple[Attempt, ...] = ()) -> Job:
        """The job as it is shown."""
        return Job(
            id=self.id,
            tenant=self.asked.tenant,
            task=self.asked.task,
            queue=self.asked.queue,
            state=self.state,
            reason=self.reason,
            priority=self.asked.priority,
            payload=self.payload,
            result=self.result,
            error=self.error,
            attempt=self.attempt,
            max_attempts=self.asked.max_attempts,
            run=self.run,
            epoch=self.epoch,
            crashes=self.crashes,
            interruptions=self.interruptions,
            run_at=self.run_at,
            expires_at=self.expires_at,
            timeout=self.asked.timeout,
            tags=self.asked.tags,
            metadata=self.asked.metadata,
            idempotency_key=self.asked.idempotency.key if self.asked.idempotency else None,
            progress=self.progress,
            worker=self.worker,
            cancel_requested_at=self.cancel_requested_at,
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            attempts=attempts,
        )


@dataclass(frozen=True, slots=True)
class Closed:
    """The one closing record of an epoch, and the state that its job went into."""

    attempt: Attempt
    state: State


@dataclass(frozen=True, slots=True)
class Key:
    """Who has an idempotency key, and until when."""

    fingerprint: str
    job_id: str
    expires_at: datetime


@dataclass(slots=True)
class Tables:
    """Everything."""

    clock: Callable[[], datetime]
    jobs: dict[str, Row] = field(default_factory=dict)
    closed: dict[tuple[str, int], Closed] = field(default_factory=dict)
    keys: dict[tuple[str, str, str], Key] = field(default_factory=dict)
    workers: dict[str, WorkerInfo] = field(default_factory=dict)
    tasks: dict[str, TaskInfo] = field(default_factory=dict)
    queues: dict[str, QueueInfo] = field(default_factory=dict)
    segments: dict[tuple[str, int, int], Segment] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], ArtifactInfo] = field(default_factory=dict)
    last_sweep_at: datetime | None = None
    watched_since: datetime | None = None

    def now(self, given: datetime | None) -> datetime:
        """The given instant, else the clock's."""
        return given or self.clock()

    def running(self, worker: str | None = None) -> Iterator[Row]:
        """Rows that run, of one worker if it is named."""
        return (
            row for row in self.jobs.values() if row.state is State.RUNNING and (worker is None or row.worker == worker)
        )

    def alive(self, worker: str) -> bool:
        """Whether a worker may claim and beat."""
        info = self.workers.get(worker)
        return info is not None and info.state == "alive"

    def listed_tasks(self) -> set[str]:
        """Tasks that some live worker has."""
        return {task for info in self.workers.values() if info.state == "alive" for task in info.tasks}

    def forget(self, job_ids: set[str]) -> list[str]:
        """Delete jobs with all that hangs on them; returns the objects that no row names any more."""
        beside = [
            segment
            for table in (self.segments, self.artifacts)
            for segment in table.values()
            if segment.job_id in job_ids
        ]
        self.jobs = {name: row for name, row in self.jobs.items() if name not in job_ids}
        self.closed = {key: closed for key, closed in self.closed.items() if key[0] not in job_ids}
        self.keys = {name: key for name, key in self.keys.items() if key.job_id not in job_ids}
        self.segments = {key: segment for key, segment in self.segments.items() if key[0] not in job_ids}
        self.artifacts = {key: artifact for key, artifact in self.artifacts.items() if key[0] not in job_ids}
        still = {segment.object for segment in self.segments.values()}
        return sorted({gone.object for gone in beside} - still)


def refuse_unstorable(*texts: str | None) -> None:
    """Half a surrogate pair is no text.

    Raises:
        DataRejected: one of them is none.
    """
    for text in texts:
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise DataRejected(str(error)) from error
