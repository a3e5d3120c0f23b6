"""The API over a real store, SQLite unless said, and the embedded adapters; what a worker would do is done by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp

from taskflow.adapters.memory import MemoryCache, MemoryEvents
from taskflow.adapters.obstore import LocalArtifacts
from taskflow.adapters.pyrate import MemoryLimiter
from taskflow.adapters.sql import SqliteStore
from taskflow.adapters.sql.schema import upgrade
from taskflow.core.job import Claim, ErrorInfo, Outcome, RunsIn, State, Ticket
from taskflow.core.lifecycle import Settlement
from taskflow.flow.catalog import Catalog
from taskflow.flow.publish import Publisher
from taskflow.flow.submit import Submitter
from taskflow.ports.clock import SystemClock
from taskflow.ports.limiter import RateLimiter
from taskflow.ports.store import StateStore, TaskInfo, WorkerInfo
from taskflow.roles.api import ApiDeps, ApiSettings, create_app
from taskflow.roles.stop import Stop

V1 = "/api/v1"
SCHEMAS: Mapping[str, Any] = {
    "t.any": {"type": "object"},
    "t.add": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "t.none": {"type": "object", "additionalProperties": False},
}


class Tickets(Publisher):
    """Keeps the tickets that it is offered."""

    def __init__(self) -> None:
        self.offered: list[Ticket] = []

    def offer(self, tickets: Sequence[Ticket]) -> None:
        self.offered += tickets


@dataclass
class Lines:
    """Jobs whose last log lines are on their way, and the worker that this process has."""

    jobs: set[str] = field(default_factory=set)
    worker: str | None = "w1"

    def pending(self, job_id: str) -> bool:
        return job_id in self.jobs


@dataclass
class House:
    """The app, a client, and what is behind it."""

    app: ASGIApp
    http: httpx2.AsyncClient
    store: StateStore
    deps: ApiDeps
    tickets: Tickets
    lines: Lines
    events: MemoryEvents
    artifacts: LocalArtifacts
    health: dict[str, str | None]
    ready: dict[str, str | None]

    async def submit(self, task: str = "t.any", headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        """A job that is accepted."""
        answer = await self.http.post("/jobs", json={"task": task, **body}, headers=headers)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def get(self, job_id: str) -> dict[str, Any]:
        """A job as it is now."""
        return dict((await self.http.get(f"/jobs/{job_id}")).json())

    async def count(self) -> int:
        """How many jobs are stored."""
        return len((await self.http.get("/jobs?limit=200")).json()["items"])

    async def claim(self, job_id: str) -> Claim:
        """Start a run of a job."""
        [claim] = await self.store.claim("w1", [job_id], list(SCHEMAS))
        return claim

    async def end(
        self, claim: Claim, state: State = State.SUCCEEDED, result: str = "null", error: ErrorInfo | None = None
    ) -> None:
        """End a run."""
        succeeded = state is State.SUCCEEDED
        settlement = Settlement(
            id=claim.id,
            epoch=claim.epoch,
            worker=claim.worker,
            outcome=Outcome.SUCCEEDED if succeeded else Outcome.FAILED,
            state=state,
            result=result if succeeded else None,
            error=None if succeeded else error or ErrorInfo("ValueError", "no luck", "Traceback"),
        )
        [settled] = await self.store.settle([settlement])
        assert settled.state == state
        await self.events.publish(f"job:{claim.id}", state.value.encode())

    async def finished(self, **body: Any) -> str:
        """A job that succeeded."""
        job = await self.submit(**body)
        await self.end(await self.claim(job["id"]), result='{"n":1}')
        return str(job["id"])

    async def failed(self, error: ErrorInfo | None = None, **body: Any) -> str:
        """A job that failed for good."""
        job = await self.submit(**body)
        await self.end(await self.claim(job["id"]), State.FAILED, error=error)
        return str(job["id"])


@asynccontextmanager
async def opened(
    directory: Path, *, store: StateStore | None = None, limiter: RateLimiter | None = None, **settings: Any
) -> AsyncIterator[House]:
    """A house in a directory, or over a store that is open."""
    events, cache, limiter = MemoryEvents(), MemoryCache(), limiter or MemoryLimiter()
    async with AsyncExitStack() as stack:
        if store is None:
            url = f"sqlite:///{directory}/taskflow.db"
            upgrade(url)
            store = await stack.enter_async_context(SqliteStore.from_url(url))
        artifacts = await stack.enter_async_context(LocalArtifacts(directory / "objects"))
        await publish(store, SCHEMAS)
        await store.register(
            WorkerInfo(
                id="w1", host="here", pid=1, queues=["default"], tasks=list(SCHEMAS), slots={"async": 10}, lease=30.0
            )
        )
        tickets, lines = Tickets(), Lines()
        health: dict[str, str | None] = {"store": None, "broker": None}
        ready: dict[str, str | None] = {"api": None}

        async def pings() -> Mapping[str, str | None]:
            return dict(health)

        deps = ApiDeps(
            settings=ApiSettings(version="1.2.3", **settings),
            store=store,
            submitter=Submitter(store, tickets),
            catalog=Catalog(store, SystemClock()),
            publish=tickets.offer,
            events=events,
            cache=cache,
            limiter=limiter,
            artifacts=artifacts,
            pending=lines,
            worker=lambda: lines.worker,
            stop=Stop(),
            health=pings,
            ready=lambda: ready,
        )
        app = create_app(deps)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url=f"http://here{V1}") as http:
            yield House(app, http, store, deps, tickets, lines, events, artifacts, health, ready)


async def publish(store: StateStore, schemas: Mapping[str, Any]) -> None:
    """Put tasks into the catalogue."""
    await store.publish_tasks(
        [
            TaskInfo(
                name=name,
                queue="default",
                runs_in=RunsIn.ASYNC,
                schema=json.dumps(schema),
                timeout=60.0,
                max_attempts=5,
                description=name,
            )
            for name, schema in schemas.items()
        ]
    )
