"""Documents: what the API shows of a job. JSON texts are spliced in as they were stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import orjson
from starlette.responses import Response

from taskflow.core.job import ErrorInfo, Job, NewJob
from taskflow.ports.store import Inserted

JSON: Final = "application/json"


def instant(value: datetime | None) -> str | None:
    """RFC 3339, UTC, microseconds."""
    return None if value is None else value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(document), status, headers, JSON)


def job_document(job: Job) -> dict[str, Any]:
    """A job as DESIGN's document."""
    return {
        "id": job.id,
        "task": job.task,
        "queue": job.queue,
        "state": job.state,
        "reason": job.reason,
        "priority": job.priority,
        "payload": orjson.Fragment(job.payload),
        "result": _fragment(job.result),
        "error": _error(job.error),
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "run": job.run,
        "epoch": job.epoch,
        "crashes": job.crashes,
        "interruptions": job.interruptions,
        "run_at": instant(job.run_at),
        "expires_at": instant(job.expires_at),
        "timeout": job.timeout,
        "tags": orjson.Fragment(job.tags),
        "metadata": orjson.Fragment(job.metadata),
        "idempotency_key": job.idempotency_key,
        "progress": _fragment(job.progress),
        "worker": job.worker,
        "cancel_requested_at": instant(job.cancel_requested_at),
        "created_at": instant(job.created_at),
        "started_at": instant(job.started_at),
        "finished_at": instant(job.finished_at),
        "attempts": [
            {
                "epoch": attempt.epoch,
                "number": attempt.number,
                "started_at": instant(attempt.started_at),
                "finished_at": instant(attempt.finished_at),
                "outcome": attempt.outcome,
                "error": _error(attempt.error),
                "worker": attempt.worker,
            }
            for attempt in job.attempts
        ],
    }


def new_document(job: NewJob, stored: Inserted) -> dict[str, Any]:
    """The document of a job that was stored just now, without reading it."""
    fresh = Job(
        id=job.id,
        tenant=job.tenant,
        task=job.task,
        queue=job.queue,
        state=stored.state,
        reason=None,
        priority=job.priority,
        payload=job.payload,
        result=None,
        error=None,
        attempt=0,
        max_attempts=job.max_attempts,
        run=1,
        epoch=0,
        crashes=0,
        interruptions=0,
        run_at=stored.run_at,
        expires_at=job.expires_at,
        timeout=job.timeout,
        tags=job.tags,
        metadata=job.metadata,
        idempotency_key=job.idempotency.key if job.idempotency else None,
        progress=None,
        worker=None,
        cancel_requested_at=None,
        created_at=stored.created_at,
        started_at=None,
        finished_at=None,
    )
    return job_document(fresh)


def _fragment(text: str | None) -> Any:
    return None if text is None else orjson.Fragment(text)


def _error(error: ErrorInfo | None) -> Any:
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "traceback": error.traceback}
