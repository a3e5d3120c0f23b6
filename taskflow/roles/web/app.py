"""The app: every route in one place."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from taskflow.core.errors import TaskFlowError
from taskflow.roles.web.deps import ApiDeps
from taskflow.roles.web.edge import Edge
from taskflow.roles.web.jobs import JobRoutes
from taskflow.roles.web.openapi import openapi
from taskflow.roles.web.pages import page_routes
from taskflow.roles.web.problems import Problem, problem_of
from taskflow.roles.web.things import ThingRoutes

V1: Final = "/api/v1"
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def create_app(deps: ApiDeps) -> Starlette:
    """The HTTP API over these parts."""
    document = openapi(deps.settings.version)
    return Starlette(
        routes=[*routes(deps), *page_routes(document)],
        middleware=[Middleware(Edge, deps.settings, deps.limiter)],
        exception_handlers={HTTPException: _http, Problem: _ours, TaskFlowError: _ours, TimeoutError: _ours},
    )


def routes(deps: ApiDeps) -> list[BaseRoute]:
    """Everything below /api/v1."""
    jobs = JobRoutes(deps)
    things = ThingRoutes(deps, jobs)
    table = [
        ("POST", "/jobs", jobs.submit),
        ("GET", "/jobs", jobs.list),
        ("POST", "/jobs/batch", jobs.submit_batch),
        ("GET", "/jobs/{id}", jobs.show),
        ("POST", "/jobs/{id}/cancel", jobs.cancel),
        ("POST", "/jobs/{id}/replay", jobs.replay),
        ("GET", "/jobs/{id}/artifacts", things.artifacts),
        ("GET", "/jobs/{id}/artifacts/{name:path}", things.artifact),
        ("GET", "/logs/{id}", things.logs),
        ("GET", "/dead-letters", jobs.list_dead),
        ("POST", "/dead-letters/replay", things.dead_replay),
        ("POST", "/dead-letters/purge", things.dead_purge),
        ("GET", "/tasks", things.tasks),
        ("GET", "/workers", things.workers),
        ("GET", "/queues", things.queues),
        ("POST", "/queues", things.make_queue),
        ("POST", "/queues/{name}/pause", things.pause),
        ("POST", "/queues/{name}/resume", things.resume),
        ("GET", "/health", things.health),
        ("GET", "/health/live", things.live),
        ("GET", "/health/ready", things.ready),
    ]
    paths: dict[str, dict[str, Handler]] = {}
    for method, path, handler in table:
        paths.setdefault(path, {})[method] = handler
    found: list[BaseRoute] = []
    for path, by_method in paths.items():
        allow = sorted({*by_method, *(["HEAD"] if "GET" in by_method else [])})
        for method, handler in by_method.items():
            found.append(Route(V1 + path, handler, methods=[method]))
        found.append(Route(V1 + path, _Refuse(allow)))
    return found


class _Refuse:
    """Answers methods that a path does not have; an ASGI app takes every method."""

    def __init__(self, allow: list[str]) -> None:
        self._allow = ", ".join(allow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        problem = Problem(
            405,
            "method-not-allowed",
            f"{request.method[:20]} is not for this path; use {self._allow}",
            headers={"Allow": self._allow},
        )
        await problem.response(request)(scope, receive, send)


async def _ours(request: Request, error: Exception) -> Response:
    return problem_of(error).response(request)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return Problem(404, "not-found", f"there is no path {request.url.path[:200]!r}").response(request)
    kind = "method-not-allowed" if error.status_code == 405 else "http-error"
    return Problem(error.status_code, kind, str(error.detail), headers=error.headers).response(request)
