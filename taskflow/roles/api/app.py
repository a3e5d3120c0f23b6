"""The app: routes, and the edge around them."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from taskflow.roles.api.client import Gate, Keys, Proxies
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.edge import Edge
from taskflow.roles.api.openapi import describe
from taskflow.roles.api.operation import operation_of
from taskflow.roles.api.pages import PageRoutes
from taskflow.roles.api.problems import Problem
from taskflow.roles.api.resource import Resource
from taskflow.roles.api.routes import COUNTED_BY_HANDLER, LONG, WAITING, api_routes, page_routes


def create_app(deps: ApiDeps) -> ASGIApp:
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
    # The edge answers every error, so Starlette's own layers for that would only cost time. A redirect of a POST loses
    # its body with many clients; a 404 says at once what is wrong.
    router = Router(routes, redirect_slashes=False, default=_nothing_here)
    return Edge(router, keys=keys, proxies=Proxies(settings.trusted_proxies), public=public)


async def _nothing_here(scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    raise Problem(404, "not-found", f"there is nothing at {scope['path'][:200]}")
