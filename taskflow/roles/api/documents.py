"""Documents: jobs and what belongs to them, as clients see them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from taskflow.core.job import Attempt, ErrorInfo, Job, NewJob, State
from taskflow.ports.store import ArtifactInfo, Inserted, QueueInfo, TaskInfo, WorkerInfo

_Fragment = orjson.Fragment
_MARK = b"\x00"
"""Stands in no JSON."""


@lru_cache(maxsize=1_000)
def _stamp(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def stamp(moment: datetime | None) -> str | None:
    """RFC 3339, UTC, microseconds, Z."""
    # Jobs of one commit share their instants.
    return None if moment is None else _stamp(moment)


def job_document(job: Job) -> bytes:
    """A job; its JSON texts go in as they are."""
    return orjson.dumps(
        {
            "id": job.id,
            "task": job.task,
            "queue": job.queue,
            "state": job.state,
            "reason": job.reason,
            "priority": job.priority,
            "payload": _Fragment(job.payload),
            "result": _spliced(job.result),
            "error": _error(job.error),
            "attempt": job.attempt,
            "max_attempts": job.max_attempts,
            "run": job.run,
            "epoch": job.epoch,
            "crashes": job.crashes,
            "interruptions": job.interruptions,
            "run_at": stamp(job.run_at),
            "expires_at": stamp(job.expires_at),
            "timeout": job.timeout,
            "tags": _Fragment(job.tags),
            "metadata": _Fragment(job.metadata),
            "idempotency_key": job.idempotency_key,
            "progress": _spliced(job.progress),
            "worker": job.worker,
            "cancel_requested_at": stamp(job.cancel_requested_at),
            "created_at": stamp(job.created_at),
            "started_at": stamp(job.started_at),
            "finished_at": stamp(job.finished_at),
            "attempts": [_attempt(attempt) for attempt in job.attempts],
        }
    )


def new_job_document(job: NewJob, stored: Inserted) -> bytes:
    """A job that was just stored, without reading it again."""
    before, middle, after = _frame(
        job.task,
        job.queue,
        stored.state,
        job.priority,
        job.max_attempts,
        stored.run_at,
        job.expires_at,
        job.timeout,
        job.tags,
        job.metadata,
        job.idempotency.key if job.idempotency else None,
        stored.created_at,
    )
    return b"".join((before, stored.job_id.encode(), middle, job.payload.encode(), after))


@lru_cache(maxsize=64, typed=True)
def _frame(
    task: str,
    queue: str,
    state: State,
    priority: int,
    max_attempts: int,
    run_at: datetime | None,
    expires_at: datetime | None,
    timeout: float,
    tags: str,
    metadata: str,
    key: str | None,
    created_at: datetime,
) -> list[bytes]:
    """What stands around the id and the payload of a new job: jobs of one commit share their instants and mostly the rest."""
    return orjson.dumps(
        {
            "id": _Fragment(b'"' + _MARK + b'"'),
            "task": task,
            "queue": queue,
            "state": state,
            "reason": None,
            "priority": priority,
            "payload": _Fragment(_MARK),
            "result": None,
            "error": None,
            "attempt": 0,
            "max_attempts": max_attempts,
            "run": 1,
            "epoch": 0,
            "crashes": 0,
            "interruptions": 0,
            "run_at": stamp(run_at),
            "expires_at": stamp(expires_at),
            "timeout": timeout,
            "tags": _Fragment(tags),
            "metadata": _Fragment(metadata),
            "idempotency_key": key,
            "progress": None,
            "worker": None,
            "cancel_requested_at": None,
            "created_at": stamp(created_at),
            "started_at": None,
            "finished_at": None,
            "attempts": (),
        }
    ).split(_MARK)


def immutable(state: State) -> bool:
    """Whether a job in this state never changes again (a failed one may be replayed)."""
    return state.terminal and state is not State.FAILED


def listed(items: list[Any], cursor: str | None = None) -> bytes:
    """A list answer; `bytes` items are JSON already."""
    spliced = [_Fragment(item) if isinstance(item, bytes) else item for item in items]
    return orjson.dumps({"items": spliced, "next_cursor": cursor})


def task_document(task: TaskInfo) -> dict[str, Any]:
    """A task of the catalogue."""
    return {
        "name": task.name,
        "queue": task.queue,
        "runs_in": task.runs_in,
        "description": task.description,
        "timeout": task.timeout,
        "max_attempts": task.max_attempts,
        "schema": _Fragment(task.schema),
        "live_workers": task.live_workers,
        "updated_at": stamp(task.updated_at),
    }


def queue_document(queue: QueueInfo) -> dict[str, Any]:
    """A queue and what stands in it."""
    return {
        "name": queue.name,
        "paused": queue.paused,
        "pause_reason": queue.pause_reason,
        "depth": f"{queue.depth:,}+" if queue.depth_capped else queue.depth,
        "running": queue.running,
        "oldest": queue.oldest,
    }


def worker_document(worker: WorkerInfo) -> dict[str, Any]:
    """A worker process."""
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "state": worker.state,
        "queues": list(worker.queues),
        "tasks": list(worker.tasks),
        "slots": dict(worker.slots),
        "lease": worker.lease,
        "started_at": stamp(worker.started_at),
        "heartbeat_at": stamp(worker.heartbeat_at),
    }


def artifact_document(artifact: ArtifactInfo) -> dict[str, Any]:
    """A file that a handler kept."""
    return {
        "name": artifact.name,
        "content_type": artifact.content_type,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "created_at": stamp(artifact.created_at),
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "epoch": attempt.epoch,
        "number": attempt.number,
        "started_at": stamp(attempt.started_at),
        "finished_at": stamp(attempt.finished_at),
        "outcome": attempt.outcome,
        "error": _error(attempt.error),
        "worker": attempt.worker,
    }


def _error(error: ErrorInfo | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "traceback": error.traceback}


def _spliced(text: str | None) -> orjson.Fragment | None:
    return None if text is None else _Fragment(text)
