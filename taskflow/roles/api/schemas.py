"""Models of what goes over the wire, for the API description. Requests are checked by hand, errors all at once; tests
hold the two together."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from taskflow.core.job import Outcome, RunsIn, State
from taskflow.core.limits import ATTEMPTS_MAX, BATCH_JOBS, DEFAULT_PRIORITY, HORIZON_SECONDS, TIMEOUT_SECONDS_MAX
from taskflow.flow.admit import TAGS_MAX

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
Text = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$")]
Nothing = SkipJsonSchema[None]
JsonObject = dict[str, Any]


class Closed(BaseModel):
    """A body: unknown members are refused."""

    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    """An answer: later versions may add members."""

    model_config = ConfigDict(extra="allow")


class Submit(Closed):
    """A request to run a task."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "not": {"required": ["run_at", "delay"]},
            "example": {"task": "demo.echo", "payload": {"a": 1}},
        },
    )

    task: Name = Field(description="A task of the catalogue.")
    payload: JsonObject = Field(default={}, description="Keyword arguments of the handler; fits the task's schema.")
    queue: Name | Nothing = Field(default=None, description="A known queue; the task's own unless said.")
    priority: int = Field(default=DEFAULT_PRIORITY, ge=0, le=9, description="High 7 to 9, normal 4 to 6, low 0 to 3.")
    run_at: datetime | Nothing = Field(default=None, description="Not before this instant, at most 5 years ahead.")
    delay: Annotated[float, Field(ge=0, le=HORIZON_SECONDS)] | Text | Nothing = Field(
        default=None, description="Not before so many seconds (or `1h30m`) have passed."
    )
    max_attempts: Annotated[int, Field(ge=1, le=ATTEMPTS_MAX)] | Nothing = Field(
        default=None, description="The task's own unless said."
    )
    timeout: Annotated[float, Field(gt=0, le=TIMEOUT_SECONDS_MAX)] | Text | Nothing = Field(
        default=None, description="Seconds (or `10m`) that one attempt may take; the task's own unless said."
    )
    expires_at: datetime | Nothing = Field(default=None, description="Expires unless it has started by then.")
    tags: Annotated[list[Name], Field(max_length=TAGS_MAX, json_schema_extra={"uniqueItems": True})] = Field(default=[])
    metadata: JsonObject = Field(default={}, description="At most 16 KiB; given to the handler, shown, never read.")


class Batch(Closed):
    """Many requests to run tasks."""

    jobs: Annotated[list[Submit], Field(min_length=1, max_length=BATCH_JOBS)]


class Replay(Closed):
    """How to run a failed job again."""

    payload: JsonObject | Nothing = Field(default=None, description="Replaces the job's.")


class Error(Open):
    """Why an attempt failed."""

    type: str
    message: str
    traceback: str | None


class Attempt(Open):
    """One execution."""

    epoch: int
    number: int
    started_at: datetime
    finished_at: datetime | None
    outcome: Outcome | None
    error: Error | None
    worker: str


class Job(Open):
    """A job."""

    id: str
    task: str
    queue: str
    state: State
    reason: str | None
    priority: int
    payload: JsonObject
    result: Any
    error: Error | None
    attempt: int
    max_attempts: int
    run: int
    epoch: int
    crashes: int
    interruptions: int
    run_at: datetime | None
    expires_at: datetime | None
    timeout: float
    tags: list[str]
    metadata: JsonObject
    idempotency_key: str | None
    progress: Any
    worker: str | None
    cancel_requested_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: list[Attempt]


class JobList(Open):
    """A page of jobs."""

    items: list[Job]
    next_cursor: str | None


class FieldProblem(Open):
    """One wrong field."""

    pointer: str = Field(description="JSON pointer into the body, `?name` of a query parameter, or a header's name.")
    detail: str


class Problem(Open):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | Nothing = None
    errors: list[FieldProblem] | Nothing = None


class BatchItem(Open):
    """What became of one job of a batch: the job or the problem, with the status that it would have had alone."""

    index: int
    status: int
    job: Job | Nothing = None
    problem: Problem | Nothing = None


class BatchAnswer(Open):
    """What became of a batch."""

    items: list[BatchItem]


class Artifact(Open):
    """A file that a handler kept."""

    name: str
    content_type: str
    size: int
    sha256: str
    created_at: datetime | None


class ArtifactList(Open):
    """Files of a job."""

    items: list[Artifact]
    next_cursor: None


class Task(Open):
    """A task of the catalogue."""

    name: str
    queue: str
    runs_in: RunsIn
    description: str
    timeout: float
    max_attempts: int
    schema_: JsonObject = Field(alias="schema", description="JSON Schema of the payload.")
    live_workers: int
    updated_at: datetime | None


class TaskList(Open):
    """Every known task."""

    items: list[Task]
    next_cursor: None


class Queue(Open):
    """A queue and what stands in it."""

    name: str
    paused: bool
    pause_reason: str | None
    depth: int | str = Field(description="Queued jobs; the text `10,000+` where there are more than are counted.")
    running: int
    oldest: float | None = Field(description="Seconds that the oldest queued job has waited.")


class QueueList(Open):
    """Every queue."""

    items: list[Queue]
    next_cursor: None


class QueueCreate(Closed):
    """A queue to make."""

    name: Annotated[Name, Field(json_schema_extra={"not": {"pattern": r"^amq\."}})]


class Pause(Closed):
    """Why a queue is paused."""

    reason: Annotated[str, Field(min_length=1, max_length=500)] | Nothing = None


class Worker(Open):
    """A worker process."""

    id: str
    host: str
    pid: int
    state: str
    queues: list[str]
    tasks: list[str]
    slots: dict[str, int]
    lease: float
    started_at: datetime | None
    heartbeat_at: datetime | None


class WorkerList(Open):
    """Worker processes."""

    items: list[Worker]
    next_cursor: None


class DeadFilter(Closed):
    """Which dead letters; an empty one matches all."""

    task: Name | Nothing = None
    queue: Name | Nothing = None
    error_type: Annotated[str, Field(min_length=1, max_length=200)] | Nothing = None
    created_after: datetime | Nothing = None
    created_before: datetime | Nothing = None


Ids = Annotated[
    list[Annotated[str, Field(json_schema_extra={"format": "uuid"})]], Field(min_length=1, max_length=1_000)
]
_ONE_OF: dict[str, Any] = {"oneOf": [{"required": ["ids"]}, {"required": ["filter"]}]}


class DeadPurge(Closed):
    """Which dead letters to delete: by id or by filter."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_ONE_OF)

    ids: Ids | Nothing = None
    filter: DeadFilter | Nothing = None


class DeadReplay(Closed):
    """Which dead letters to run again: by id or by filter."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_ONE_OF)

    ids: Ids | Nothing = None
    filter: DeadFilter | Nothing = None
    payload: JsonObject | Nothing = Field(default=None, description="Replaces that of each job.")


class JobOutcome(Open):
    """What became of one job."""

    id: str
    status: int
    problem: Problem | Nothing = None


class Outcomes(Open):
    """What became of many jobs."""

    items: list[JobOutcome]
    more: bool = Field(description="Whether the filter matches further jobs: call again.")


class Component(Open):
    """One part of the whole."""

    status: Literal["ok", "down"]
    detail: str | Nothing = None


class Health(Open):
    """How well it works: `degraded` where a part is down that is not the store."""

    status: Literal["ok", "degraded", "down"]
    version: str
    components: dict[str, Component]


class Live(Open):
    """The process answers."""

    status: Literal["ok"]


class Ready(Open):
    """Whether each role of the process works: `ready`, or why it does not."""

    status: Literal["ready", "not ready"]
    roles: dict[str, str]
