"""The words of TaskFlow as types: job, state, lane, claim, outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple

from taskflow.core.limits import CRASHES_BEFORE_ISOLATION, DEFAULT_TENANT


class State(StrEnum):
    """Where a job stands."""

    SCHEDULED = "scheduled"
    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether the job is over (a failed one may be replayed by hand)."""
        return self in _TERMINAL


_TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})


class Outcome(StrEnum):
    """How one epoch (one execution) ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SNOOZED = "snoozed"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class RunsIn(StrEnum):
    """What a handler runs in, and so which slots it uses."""

    ASYNC = "async"
    THREAD = "thread"
    PROCESS = "process"


class Lane(IntEnum):
    """A priority band of a queue."""

    HIGH = 0
    NORMAL = 1
    LOW = 2

    @classmethod
    def of(cls, priority: int) -> Lane:
        """The lane of a priority from 0 (low) to 9 (high)."""
        return cls.HIGH if priority >= 7 else cls.NORMAL if priority >= 4 else cls.LOW


class LaneKey(NamedTuple):
    """A lane of a queue: the unit of first in, first out."""

    queue: str
    lane: Lane


class Ticket(NamedTuple):
    """The broker's message of a job: "this job may run". It may be lost or doubled.

    `runs_in` lets a worker buffer it beside the slots it would use; `queued_at` tells how old the lane's front is.
    """

    job_id: str
    lane: LaneKey
    runs_in: RunsIn
    queued_at: datetime


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why an attempt failed, as kept and shown.

    Attributes:
        type: name of the exception type, or a TaskFlow word such as `Timeout`.
        message: its text.
        traceback: formatted traceback, `None` where there is none.
    """

    type: str
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Idempotency:
    """What makes a second submit the same submit: key and fingerprint of the canonical body, per route."""

    route: str
    key: str
    fingerprint: str


class NewJob(NamedTuple):
    """An admitted request to run a task, ready to be stored.

    `payload`, `tags` (an array of texts) and `metadata` (an object) are JSON text. `run_at` is an instant the client
    named; `delay` is seconds from the store's now; at most one of them is set.
    """

    id: str
    task: str
    queue: str
    priority: int
    runs_in: RunsIn
    payload: str
    max_attempts: int
    timeout: float
    run_at: datetime | None = None
    delay: float | None = None
    expires_at: datetime | None = None
    tags: str = "[]"
    metadata: str = "{}"
    idempotency: Idempotency | None = None
    tenant: str = DEFAULT_TENANT


class Claim(NamedTuple):
    """The right to run a job now: everything a run and its settlement need. (id, epoch, worker) is the fencing token.

    `tries` counts the attempts since the last replay, this one included; the budget is `max_attempts` of them.
    """

    id: str
    tenant: str
    task: str
    queue: str
    priority: int
    payload: str
    epoch: int
    worker: str
    attempt: int
    tries: int
    max_attempts: int
    timeout: float
    run: int
    crashes: int
    interruptions: int
    snoozes: int
    tags: str
    metadata: str
    created_at: datetime
    started_at: datetime

    @property
    def isolated(self) -> bool:
        """Whether the job must run alone in the isolation slot, since its workers died twice."""
        return self.crashes >= CRASHES_BEFORE_ISOLATION


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The closing record of one epoch, or the open one of a running job (`outcome` is `None`)."""

    epoch: int
    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: Outcome | None
    error: ErrorInfo | None
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the store shows it. JSON texts stay text: numbers are byte-exact from submit to answer."""

    id: str
    tenant: str
    task: str
    queue: str
    state: State
    reason: str | None
    priority: int
    payload: str
    result: str | None
    error: ErrorInfo | None
    attempt: int
    max_attempts: int
    run: int
    epoch: int
    crashes: int
    interruptions: int
    run_at: datetime | None
    expires_at: datetime | None
    timeout: float
    tags: str
    metadata: str
    idempotency_key: str | None
    progress: str | None
    worker: str | None
    cancel_requested_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: tuple[Attempt, ...] = field(default=())
