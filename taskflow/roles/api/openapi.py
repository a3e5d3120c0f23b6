"""The API description (OpenAPI 3.1), made from what the handlers say about themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from taskflow.roles.api.operation import Handler, Media, Operation, Parameter, operation_of
from taskflow.roles.api.schemas import Closed, Problem

COMMON_PROBLEMS: Final = (414, 431, 500)
"""Every operation may end with these."""
_TAGS: Final = {
    "jobs": "Submit jobs, look at them, wait for them, stop them.",
    "logs": "What the runs of a job wrote.",
    "artifacts": "Files that the runs of a job kept.",
    "dead letters": "Jobs that failed for good.",
    "queues": "Named streams of work.",
    "catalogue": "What can run, and who runs it.",
    "health": "How well it works.",
}
_DESCRIPTION: Final = """\
A self-hosted job orchestrator. A 2xx on submit means that the job is durable.

Every error is a problem document (RFC 9457) whose `type` stays the same; `errors` names each wrong field. Every answer
has an `X-Request-Id`, yours if you sent one. Times are RFC 3339 in UTC, durations are seconds."""


def describe(paths: Mapping[str, Mapping[str, Handler]], *, version: str, keyed: bool, limited: bool) -> dict[str, Any]:
    """The document.

    Args:
        paths: handlers by path (with `{name}` and `{name:path}` parts) and method.
        keyed: whether bearer keys are needed.
        limited: whether POST requests are rate-limited.
    """
    described = {
        path: {
            method.lower(): _operation(path, method, operation, keyed=keyed, limited=limited)
            for method, handler in handlers.items()
            if (operation := operation_of(handler)) is not None
        }
        for path, handlers in paths.items()
    }
    components: dict[str, Any] = {"schemas": _schemas(paths)}
    if keyed:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "TaskFlow",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": {re.sub(r":\w+}", "}", path): methods for path, methods in described.items() if methods},
        "components": components,
    }


def _operation(path: str, method: str, operation: Operation, *, keyed: bool, limited: bool) -> dict[str, Any]:
    problems = {*operation.problems, *COMMON_PROBLEMS}
    if keyed and not operation.public:
        problems |= {401, 429}
    if not limited and not keyed:
        problems.discard(429)
    if method == "POST":
        problems.add(403)
    answers = {status: _answer(operation, status) for status in operation.answers}
    for status in problems - set(answers):
        answers[status] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": _ref(Problem)}},
        }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(name, path)}
        for name in re.findall(r"{(\w+)(?::\w+)?}", path)
    ]
    parameters += [_parameter(parameter) for parameter in operation.parameters]
    described: dict[str, Any] = {
        "operationId": _operation_id(path, method),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": parameters,
        "responses": {str(status): answers[status] for status in sorted(answers)},
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": not operation.body_optional,
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    if keyed and not operation.public:
        described["security"] = [{"key": []}]
    return described


def _answer(operation: Operation, status: int) -> dict[str, Any]:
    kind = operation.answers[status]
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(kind, Media):
        answer["content"] = {name: {"schema": {}} for name in kind.types}
    elif kind is not None:
        answer["content"] = {"application/json": {"schema": _ref(kind)}}
    headers = operation.headers.get(status, {})
    if headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()
        }
    return answer


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": False,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }


def _path_schema(name: str, path: str) -> dict[str, Any]:
    if name == "id":
        return {"type": "string", "format": "uuid"}
    return (
        {"type": "string", "minLength": 1}
        if ":path" in path
        else {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}
    )


def _operation_id(path: str, method: str) -> str:
    words = re.sub(r"{(\w+)(?::\w+)?}", r"by-\1", path.removeprefix("/api/v1/"))
    return f"{method.lower()}-{re.sub(r'[^a-z]+', '-', words)}"


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _schemas(paths: Mapping[str, Mapping[str, Handler]]) -> dict[str, Any]:
    models: set[type[BaseModel]] = {Problem}
    for handlers in paths.values():
        for handler in handlers.values():
            operation = operation_of(handler)
            if operation is not None:
                models |= {kind for kind in operation.answers.values() if isinstance(kind, type)}
                models |= {operation.body} if operation.body else set()
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation" if issubclass(model, Closed) else "serialization") for model in ordered],
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Any] = definitions["$defs"]
    return {name: _tidy(schema) for name, schema in sorted(schemas.items())}


def _tidy(schema: Any) -> Any:
    """Without `"default": null`, which a member that may only be left out cannot have, and without invented titles."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
    properties = kept.get("properties")
    tidy = {
        key: _tidy(value)
        for key, value in kept.items()
        if key != "properties" and not (key == "title" and isinstance(value, str))
    }
    if isinstance(properties, dict):
        tidy["properties"] = {name: _tidy(value) for name, value in properties.items()}
    return tidy
