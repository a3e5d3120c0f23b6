"""The app: routes, and the edge around them."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route

from taskflow.roles.api.client import Gate, Keys, Proxies
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.edge import Edge
from taskflow.roles.api.openapi import describe
from taskflow.roles.api.operation import operation_of
from taskflow.roles.api.pages import PageRoutes
from taskflow.roles.api.problems import of_status
from taskflow.roles.api.resource import Resource
from taskflow.roles.api.routes import COUNTED_BY_HANDLER, LONG, WAITING, api_routes, page_routes


def create_app(deps: ApiDeps) -> Starlette:
    """The HTTP API over its dependencies. It owns none of them: whoever made them opens and closes them."""
    settings = deps.settings
    gate = Gate(deps.limiter, settings.rate)
    keys = Keys(settings.keys, deps.limiter)
    described = api_routes(deps, gate)
    description = partial(
        describe, described, version=settings.version, keyed=bool(keys), limited=settings.rate is not None
    )
    routes = [
        Route(
            path,
            Resource(
                handlers,
                deadline=settings.deadline * (4 if path in LONG else 1) + (settings.wait_max if path == WAITING else 0),
                gate=None if path in COUNTED_BY_HANDLER else gate,
            ),
        )
        for path, handlers in {**described, **page_routes(PageRoutes(description))}.items()
    ]
    public = frozenset(
        path
        for path, handlers in described.items()
        if all((operation := operation_of(handler)) and operation.public for handler in handlers.values())
    )
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Edge, keys=keys, proxies=Proxies(settings.trusted_proxies), public=public)],
        exception_handlers={HTTPException: _raise_problem},
    )
    # A redirect of a POST loses its body with many clients; a 404 says at once what is wrong.
    app.router.redirect_slashes = False
    return app


async def _raise_problem(request: Request, error: Exception) -> NoReturn:
    assert isinstance(error, HTTPException)
    detail = f"there is nothing at {request.url.path[:200]}" if error.status_code == 404 else error.detail
    raise of_status(error.status_code, detail) from None
