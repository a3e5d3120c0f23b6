"""The OpenAPI document: every operation in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from taskflow.core.job import State
from taskflow.roles.web.schemas import INSTANT, NAME, SCHEMAS, UUID, Schema, ref

PROBLEM: Final = {"application/problem+json": {"schema": ref("Problem")}}
TITLES: Final = {
    200: "Done", 201: "Made", 202: "Accepted", 207: "An outcome for each", 304: "Not changed", 400: "Malformed",
    401: "A key is needed", 404: "No such thing", 409: "Not in a state that allows it", 413: "Too large",
    415: "Not JSON", 422: "Does not fit", 429: "Too many requests", 503: "Not available now",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `answers` maps statuses to schema names (`None`: no JSON document)."""

    method: str
    path: str
    name: str
    summary: str
    tag: str
    answers: dict[int, str | None]
    problems: tuple[int, ...] = ()
    body: str | None = None
    body_required: bool = True
    query: tuple[Schema, ...] = ()
    headers: tuple[Schema, ...] = ()
    text: bool = False


def _query(name: str, schema: Schema, description: str = "") -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _header(name: str, description: str, schema: Schema | None = None) -> Schema:
    return {"name": name, "in": "header", "required": False, "schema": schema or {"type": "string"},
            "description": description}  # fmt: skip


STATE: Final[Schema] = {"type": "array", "items": {"type": "string", "enum": [str(state) for state in State]}}
PAGING: Final = (
    _query("task", NAME),
    _query("queue", NAME),
    _query("tag", NAME),
    _query("created_after", INSTANT),
    _query("created_before", INSTANT),
    _query("order", {"type": "string", "enum": ["desc", "asc"]}),
    _query("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
    _query("cursor", {"type": "string"}, "next_cursor of the page before"),
)
KEY: Final = _header(
    "Idempotency-Key", "the same key and body again answer the first job", {"type": "string", "maxLength": 255}
)
PREFER: Final = _header("Prefer", "wait=30 answers when the job is over, after 30 s at the latest")
BODY: Final = (400, 413, 415, 422)

OPERATIONS: Final = (
    Operation("post", "/jobs", "submit", "Submit a job", "jobs", {202: "Job", 200: "Job"}, (*BODY, 429), "Submit",
              headers=(KEY,)),
    Operation("get", "/jobs", "list_jobs", "List jobs", "jobs", {200: "JobPage"}, (400, 422),
              query=(_query("state", STATE, "repeated, or with commas"), *PAGING)),
    Operation("post", "/jobs/batch", "submit_batch", "Submit many jobs", "jobs", {207: "BatchAnswer"}, (*BODY, 429),
              "Batch", headers=(KEY,)),
    Operation("get", "/jobs/{id}", "get_job", "Look at a job, or wait for its end", "jobs", {200: "Job", 304: None},
              (404,), headers=(PREFER, _header("If-None-Match", "an ETag"))),
    Operation("post", "/jobs/{id}/cancel", "cancel_job", "Ask for the end of a job", "jobs", {200: "Job", 202: "Job"},
              (404, 409, 429)),
    Operation("post", "/jobs/{id}/replay", "replay_job", "Run a failed job again", "jobs", {200: "Job"},
              (404, 409, *BODY, 429), "Replay", body_required=False),
    Operation("get", "/jobs/{id}/artifacts", "list_artifacts", "Files of a job", "jobs", {200: "ArtifactPage"}, (404,)),
    Operation("get", "/jobs/{id}/artifacts/{name}", "get_artifact", "A file of a job", "jobs", {200: None}, (404,)),
    Operation("get", "/logs/{id}", "get_logs", "What a job's runs wrote", "jobs", {200: None}, (404, 422), text=True,
              query=(_query("epoch", {"type": "integer", "minimum": 1, "maximum": 2147483648}, "of one run only"),
                     _query("after", {"type": "integer", "minimum": 0, "maximum": 2147483648}, "lines to leave out"))),
    Operation("get", "/dead-letters", "list_dead_letters", "Failed jobs", "dead letters", {200: "JobPage"}, (400, 422),
              query=(*PAGING, _query("error_type", {"type": "string"}))),
    Operation("post", "/dead-letters/replay", "replay_dead_letters", "Replay by ids or by filter", "dead letters",
              {207: "Outcomes"}, (*BODY, 429), "ChosenToReplay"),
    Operation("post", "/dead-letters/purge", "purge_dead_letters", "Delete by ids or by filter", "dead letters",
              {207: "Outcomes"}, (*BODY, 429), "Chosen"),
    Operation("get", "/tasks", "list_tasks", "What can be submitted", "system", {200: "TaskPage"}),
    Operation("get", "/workers", "list_workers", "What runs jobs", "system", {200: "WorkerPage"}),
    Operation("get", "/queues", "list_queues", "Queues and what stands in them", "queues", {200: "QueuePage"}),
    Operation("post", "/queues", "make_queue", "Make a queue", "queues", {201: "Queue", 200: "Queue"}, (*BODY, 429),
              "NewQueue"),
    Operation("post", "/queues/{name}/pause", "pause_queue", "Stop starting jobs of a queue", "queues", {200: "Queue"},
              (404, *BODY, 429), "Pause", body_required=False),
    Operation("post", "/queues/{name}/resume", "resume_queue", "Start jobs of a queue again", "queues", {200: "Queue"},
              (404, 429)),
    Operation("get", "/health", "health", "Each component", "system", {200: "Health", 503: "Health"}),
    Operation("get", "/health/live", "live", "Whether the process answers", "system", {200: "Status"}),
    Operation("get", "/health/ready", "ready", "Whether its roles work", "system", {200: "Status", 503: "Status"}),
)  # fmt: skip


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(f"/api/v1{operation.path}", {})[operation.method] = _operation(operation)
    chosen = SCHEMAS["Chosen"]
    payload = {"payload": SCHEMAS["Replay"]["properties"]["payload"]}
    schemas = SCHEMAS | {"ChosenToReplay": chosen | {"properties": chosen["properties"] | payload}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TaskFlow",
            "version": version,
            "description": "Submit jobs, look at them, stop and replay them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, schema in operation.answers.items():
        answers[str(status)] = {"description": TITLES[status]}
        if schema:
            answers[str(status)]["content"] = {"application/json": {"schema": ref(schema)}}
        elif operation.text:
            answers[str(status)]["content"] = {
                kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/x-ndjson")
            }
        elif status == 200:
            answers[str(status)]["content"] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    problems = {401, 503, *operation.problems} - ({503} & set(operation.answers))
    for status in sorted(problems):
        answers[str(status)] = {"description": TITLES[status], "content": PROBLEM}
    parameters = [*_path_parameters(operation.path), *operation.query, *operation.headers]
    document: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": answers,
    }
    if operation.body:
        content = {"application/json": {"schema": ref(operation.body)}}
        document["requestBody"] = {"required": operation.body_required, "content": content}
    return document


def _path_parameters(path: str) -> list[Schema]:
    found: list[Schema] = []
    if "{id}" in path:
        found.append({"name": "id", "in": "path", "required": True, "schema": UUID})
    if "{name}" in path:
        schema = {"type": "string"} if "artifacts" in path else NAME
        found.append({"name": "name", "in": "path", "required": True, "schema": schema})
    return found
