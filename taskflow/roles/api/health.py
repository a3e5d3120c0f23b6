"""Health: how each component is, and what that means for the whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from taskflow.roles.api import schemas
from taskflow.roles.api.answer import Answer, json_answer
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.monitor import readiness
from taskflow.roles.api.operation import op

CRITICAL: Final = frozenset({"store"})
"""Components without which nothing works; another one that is down only degrades the whole."""
KEPT: Final = 0.5
"""Seconds that a finding is given again, so that asking often costs little."""


class HealthRoutes:
    """`/api/v1/health` and its probes."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps
        self._last: tuple[float, Mapping[str, str | None]] | None = None

    @op("Health of every component", answers={200: schemas.Health, 503: schemas.Health}, problems=(), tag="health")
    async def health(self, _: Request) -> Answer:
        """200 while the store works, even where another component does not (`degraded`); else 503."""
        if self._last is None or time.monotonic() - self._last[0] > KEPT:
            self._last = (time.monotonic(), await self._deps.health())
        found = self._last[1]
        down = any(found.get(name) is not None for name in CRITICAL)
        document: dict[str, Any] = {
            "status": "down" if down else "ok" if all(wrong is None for wrong in found.values()) else "degraded",
            "version": self._deps.settings.version,
            "components": {
                name: {"status": "ok"} if wrong is None else {"status": "down", "detail": wrong}
                for name, wrong in found.items()
            },
        }
        return json_answer(document, 503 if down else 200)

    @op("Whether the process lives", answers={200: schemas.Live}, problems=(), tag="health", public=True)
    async def live(self, _: Request) -> Answer:
        """Always 200: a process that cannot answer is started anew by whoever asks."""
        return json_answer({"status": "ok"})

    @op(
        "Whether the roles of this process work",
        answers={200: schemas.Ready, 503: schemas.Ready},
        problems=(),
        tag="health",
        public=True,
    )
    async def ready(self, _: Request) -> Answer:
        """503 while one of this process's roles cannot work, or the process ends: no traffic, please."""
        return json_answer(*readiness(self._deps.ready(), leaving=self._deps.stop.asked.is_set()))
