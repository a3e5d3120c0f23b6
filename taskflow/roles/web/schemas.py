"""The shapes of requests and answers, as JSON Schema for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from taskflow.core.job import Outcome, State
from taskflow.core.limits import ATTEMPTS_MAX, BATCH_JOBS

Schema = dict[str, Any]
NAME: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}
UUID: Final[Schema] = {"type": "string", "format": "uuid"}
INSTANT: Final[Schema] = {"type": "string", "format": "date-time"}
ANYTHING: Final[Schema] = {"type": "object", "additionalProperties": True}
DURATION: Final[Schema] = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}],
    "description": "seconds, or a text such as 1h30m",
}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    """A named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(properties: Schema, required: list[str] | None = None, *, closed: bool = True) -> Schema:
    """An object; all properties are required unless said otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": not closed,
    }


def page(item: str) -> Schema:
    """A page of items."""
    return record({"items": {"type": "array", "items": ref(item)}, "next_cursor": nullable({"type": "string"})})


def outcomes(identity: Schema) -> Schema:
    """What became of each of many."""
    item = record(
        {**identity, "status": {"type": "integer"}, "job": ref("Job"), "problem": ref("Problem")}, [*identity, "status"]
    )
    return record({"items": {"type": "array", "items": item}})


ERROR: Final = record(
    {"type": {"type": "string"}, "message": {"type": "string"}, "traceback": nullable({"type": "string"})}
)
SUBMIT: Final = record(
    {
        "task": NAME,
        "payload": {**ANYTHING, "description": "keyword arguments of the task"},
        "queue": NAME,
        "priority": {"type": "integer", "minimum": 0, "maximum": 9, "default": 5},
        "run_at": nullable(INSTANT),
        "delay": nullable(DURATION),
        "max_attempts": nullable({"type": "integer", "minimum": 1, "maximum": ATTEMPTS_MAX}),
        "timeout": nullable(DURATION),
        "expires_at": nullable(INSTANT),
        "tags": nullable({"type": "array", "items": NAME, "maxItems": 32, "uniqueItems": True}),
        "metadata": nullable(ANYTHING),
    },
    ["task"],
)
SCHEMAS: Final[dict[str, Schema]] = {
    "Submit": SUBMIT,
    "Batch": record({"jobs": {"type": "array", "items": ref("Submit"), "minItems": 1, "maxItems": BATCH_JOBS}}),
    "Error": ERROR,
    "Attempt": record(
        {
            "epoch": COUNT,
            "number": COUNT,
            "started_at": INSTANT,
            "finished_at": nullable(INSTANT),
            "outcome": nullable({"type": "string", "enum": [str(outcome) for outcome in Outcome]}),
            "error": nullable(ref("Error")),
            "worker": {"type": "string"},
        }
    ),
    "Job": record(
        {
            "id": UUID,
            "task": NAME,
            "queue": NAME,
            "state": {"type": "string", "enum": [str(state) for state in State]},
            "reason": nullable({"type": "string"}),
            "priority": {"type": "integer", "minimum": 0, "maximum": 9},
            "payload": ANYTHING,
            "result": {"description": "what the handler returned"},
            "error": nullable(ref("Error")),
            "attempt": COUNT,
            "max_attempts": COUNT,
            "run": COUNT,
            "epoch": COUNT,
            "crashes": COUNT,
            "interruptions": COUNT,
            "run_at": nullable(INSTANT),
            "expires_at": nullable(INSTANT),
            "timeout": {"type": "number"},
            "tags": {"type": "array", "items": NAME},
            "metadata": ANYTHING,
            "idempotency_key": nullable({"type": "string"}),
            "progress": nullable(record({"fraction": {"type": "number"}, "message": nullable({"type": "string"})})),
            "worker": nullable({"type": "string"}),
            "cancel_requested_at": nullable(INSTANT),
            "created_at": INSTANT,
            "started_at": nullable(INSTANT),
            "finished_at": nullable(INSTANT),
            "attempts": {"type": "array", "items": ref("Attempt")},
        }
    ),
    "JobPage": page("Job"),
    "BatchAnswer": outcomes({"index": COUNT}),
    "Outcomes": outcomes({"id": {"type": "string"}}),
    "Replay": record({"payload": ANYTHING}, []),
    "Chosen": record(
        {
            "ids": {"type": "array", "items": UUID, "minItems": 1, "maxItems": BATCH_JOBS},
            "filter": record({name: {"type": "string"} for name in ("task", "queue", "error_type")}, []),
        },
        [],
    ),
    "Artifact": record(
        {
            "name": {"type": "string"},
            "content_type": {"type": "string"},
            "size": COUNT,
            "sha256": {"type": "string"},
            "created_at": INSTANT,
        }
    ),
    "ArtifactPage": page("Artifact"),
    "Task": record(
        {
            "name": NAME,
            "queue": NAME,
            "runs_in": {"type": "string", "enum": ["async", "thread", "process"]},
            "timeout": {"type": "number"},
            "max_attempts": COUNT,
            "description": {"type": "string"},
            "live_workers": COUNT,
            "schema": ANYTHING,
            "updated_at": INSTANT,
        }
    ),
    "TaskPage": page("Task"),
    "Worker": record(
        {
            "id": {"type": "string"},
            "state": {"type": "string", "enum": ["alive", "stopped", "dead"]},
            "host": {"type": "string"},
            "pid": COUNT,
            "queues": {"type": "array", "items": NAME},
            "tasks": {"type": "array", "items": NAME},
            "slots": ANYTHING,
            "started_at": INSTANT,
            "heartbeat_at": INSTANT,
        }
    ),
    "WorkerPage": page("Worker"),
    "Queue": record(
        {
            "name": NAME,
            "paused": {"type": "boolean"},
            "pause_reason": nullable({"type": "string"}),
            "depth": {"anyOf": [COUNT, {"type": "string"}], "description": "exact to 10,000, then '10,000+'"},
            "running": COUNT,
            "oldest": nullable({"type": "number", "description": "seconds the oldest queued job has waited"}),
        }
    ),
    "QueuePage": page("Queue"),
    "NewQueue": record({"name": NAME}),
    "Pause": record({"reason": nullable({"type": "string", "maxLength": 500})}, []),
    "Health": record({"status": {"type": "string"}, "version": {"type": "string"}, "components": ANYTHING}),
    "Status": record({"status": {"type": "string"}, "roles": ANYTHING}, ["status"]),
    "Problem": record(
        {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "errors": {
                "type": "array",
                "items": record({"pointer": {"type": "string"}, "detail": {"type": "string"}}),
            },
        },
        ["type", "title", "status", "detail"],
        closed=False,
    ),
}
