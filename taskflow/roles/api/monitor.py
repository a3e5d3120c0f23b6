"""The monitor: what a process says of itself on an address of its own, whatever its roles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

Readiness = Mapping[str, str | None]
"""Why each role does not work, `None` where it does."""


def create_monitor(ask: Callable[[], Awaitable[Readiness]]) -> ASGIApp:
    """`GET /health/live`, and `GET /health/ready` about the roles that `ask` tells of.

    It is for who starts processes and who watches them: it asks for no key, and tells nothing of any job.
    """

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        document, status = readiness(await ask())
        return JSONResponse(document, status)

    return Router([Route("/health/live", live), Route("/health/ready", ready)], redirect_slashes=False)


def readiness(roles: Readiness, *, leaving: bool = False) -> tuple[dict[str, Any], int]:
    """The document about roles, and the status that it is sent with.

    Args:
        leaving: whether the process ends, so that it wants no traffic even while all roles work.
    """
    ready = not leaving and all(wrong is None for wrong in roles.values())
    told = {role: "ready" if wrong is None else wrong for role, wrong in roles.items()}
    return {"status": "ready" if ready else "not ready", "roles": told}, 200 if ready else 503
