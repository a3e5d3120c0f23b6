"""Every path of the API and who answers it, the busiest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskflow.roles.api.body import Bodies
from taskflow.roles.api.catalogue import CatalogueRoutes
from taskflow.roles.api.client import Gate
from taskflow.roles.api.dead import DeadRoutes
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.files import FileRoutes
from taskflow.roles.api.health import HealthRoutes
from taskflow.roles.api.jobs import JobRoutes
from taskflow.roles.api.logs import LogRoutes
from taskflow.roles.api.operation import Handler
from taskflow.roles.api.pages import PageRoutes
from taskflow.roles.api.submit import SubmitRoutes

V1: Final = "/api/v1"
Routes = Mapping[str, Mapping[str, Handler]]
COUNTED_BY_HANDLER: Final = frozenset({f"{V1}/jobs", f"{V1}/jobs/batch"})
"""Paths whose handlers count against the rate limit themselves."""
WAITING: Final = f"{V1}/jobs/{{id}}"
"""The path that may hold a request."""
LONG: Final = frozenset({f"{V1}/jobs/batch", f"{V1}/dead-letters/replay", f"{V1}/dead-letters/purge"})
"""Paths whose requests may take several times as long as others."""


def api_routes(deps: ApiDeps, gate: Gate) -> Routes:
    """Handlers by path and method."""
    bodies = Bodies(deps.settings.body_bytes)
    submit, jobs = SubmitRoutes(deps, bodies, gate), JobRoutes(deps, bodies)
    dead, catalogue = DeadRoutes(deps, bodies), CatalogueRoutes(deps, bodies)
    files, logs = FileRoutes(deps), LogRoutes(deps)
    health = HealthRoutes(deps)
    return {
        f"{V1}/jobs": {"POST": submit.submit, "GET": jobs.index},
        f"{V1}/jobs/batch": {"POST": submit.batch},
        WAITING: {"GET": jobs.get},
        f"{V1}/jobs/{{id}}/cancel": {"POST": jobs.cancel},
        f"{V1}/jobs/{{id}}/replay": {"POST": jobs.replay},
        f"{V1}/jobs/{{id}}/artifacts": {"GET": files.index},
        f"{V1}/jobs/{{id}}/artifacts/{{name:path}}": {"GET": files.download},
        f"{V1}/logs/{{id}}": {"GET": logs.get},
        f"{V1}/dead-letters": {"GET": dead.index},
        f"{V1}/dead-letters/replay": {"POST": dead.replay},
        f"{V1}/dead-letters/purge": {"POST": dead.purge},
        f"{V1}/queues": {"GET": catalogue.queues, "POST": catalogue.create},
        f"{V1}/queues/{{name}}": {"GET": catalogue.queue},
        f"{V1}/queues/{{name}}/pause": {"POST": catalogue.pause},
        f"{V1}/queues/{{name}}/resume": {"POST": catalogue.resume},
        f"{V1}/tasks": {"GET": catalogue.tasks},
        f"{V1}/workers": {"GET": catalogue.workers},
        f"{V1}/health": {"GET": health.health},
        f"{V1}/health/live": {"GET": health.live},
        f"{V1}/health/ready": {"GET": health.ready},
    }


def page_routes(pages: PageRoutes) -> Routes:
    """Paths of the API description."""
    return {
        "/openapi.json": {"GET": pages.openapi},
        "/docs": {"GET": pages.docs},
        "/redoc": {"GET": pages.redoc},
        "/docs/assets/{name}": {"GET": pages.asset},
    }
