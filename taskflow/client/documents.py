"""The API's documents as types: plain dicts, as they came."""

from __future__ import annotations

from typing import Any, Generic, TypedDict, TypeVar

Item = TypeVar("Item")


class ErrorDocument(TypedDict):
    """Why an attempt failed."""

    type: str
    message: str
    traceback: str | None


class AttemptDocument(TypedDict):
    """One epoch of a job; `outcome` is null while it runs."""

    epoch: int
    number: int
    started_at: str
    finished_at: str | None
    outcome: str | None
    error: ErrorDocument | None
    worker: str


class JobDocument(TypedDict):
    """A job. Instants are RFC 3339 in UTC; `timeout` is seconds."""

    id: str
    task: str
    queue: str
    state: str
    reason: str | None
    priority: int
    payload: dict[str, Any]
    result: Any
    error: ErrorDocument | None
    attempt: int
    max_attempts: int
    run: int
    epoch: int
    crashes: int
    interruptions: int
    run_at: str | None
    expires_at: str | None
    timeout: float
    tags: list[str]
    metadata: dict[str, Any]
    idempotency_key: str | None
    progress: dict[str, Any] | None
    worker: str | None
    cancel_requested_at: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    attempts: list[AttemptDocument]


class QueueDocument(TypedDict):
    """A queue. `depth` is a text such as `10,000+` beyond what is counted; `oldest` is seconds."""

    name: str
    paused: bool
    pause_reason: str | None
    depth: int | str
    running: int
    oldest: float | None


class TaskDocument(TypedDict):
    """A task of the catalogue; `schema` is the JSON Schema of its payload."""

    name: str
    queue: str
    runs_in: str
    timeout: float
    max_attempts: int
    description: str
    live_workers: int
    schema: dict[str, Any]
    updated_at: str


class WorkerDocument(TypedDict):
    """A process with the consumer role."""

    id: str
    state: str
    host: str
    pid: int
    queues: list[str]
    tasks: list[str]
    slots: dict[str, int]
    lease: float
    started_at: str
    heartbeat_at: str


class HealthDocument(TypedDict):
    """`status` is ok, degraded or down."""

    status: str
    version: str
    components: dict[str, dict[str, str]]


class OutcomeDocument(TypedDict, total=False):
    """What became of one of many; `problem` where it was refused."""

    id: str
    status: int
    problem: dict[str, Any]


class Page(TypedDict, Generic[Item]):
    """A part of a list; `next_cursor` asks for the following one."""

    items: list[Item]
    next_cursor: str | None
