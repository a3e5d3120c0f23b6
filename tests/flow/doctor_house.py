"""A deployment whose parts answer what a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from taskflow.adapters.memory import MemoryCache
from taskflow.core.errors import TaskFlowError
from taskflow.core.job import Lane, LaneKey, RunsIn, State
from taskflow.flow import doctor
from taskflow.flow.doctor import Check, Deployment, Finding, Life, Severity
from taskflow.ports.artifacts import Listed, ObjectInfo
from taskflow.ports.audit import LiveWorker, Odd, Standing, Waiting
from taskflow.ports.broker import LaneStanding
from taskflow.ports.store import Promoted, QueueInfo, Swept, WorkerInfo
from tests.flow.fakes import Objects

LANE = LaneKey("default", Lane.NORMAL)
LEASE = 4.0


def live(name: str = "w1", *, silent: float = 0.0, running: int = 0, **changes: Any) -> LiveWorker:
    """A worker of task `t` with two slots."""
    values: dict[str, Any] = {
        "id": name, "host": name, "pid": 1, "queues": (), "tasks": ("t",), "slots": {"async": 2}, "lease": LEASE,
    }  # fmt: skip
    return LiveWorker(WorkerInfo(**values | changes), silent, {RunsIn.ASYNC: running})


def waiting(job_id: str = "j1", age: float = 60.0, task: str = "t") -> Waiting:
    """A queued row."""
    return Waiting(job_id, task, RunsIn.ASYNC, age)


@dataclass
class FakeStore:
    """Answers what its fields say; counts what is done to it."""

    at: Standing = field(
        default_factory=lambda: Standing(now=datetime.now(UTC), swept=1.0, workers=[live()], unrunnable={})
    )
    odd_ids: dict[Odd, list[str]] = field(default_factory=dict)
    rows: dict[LaneKey, list[Waiting]] = field(default_factory=dict)
    jobs: list[tuple[str, State, int]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    files: list[tuple[tuple[str, str], str]] = field(default_factory=list)
    standings: list[QueueInfo] = field(default_factory=lambda: [QueueInfo(name="default")])
    sweeps: list[Swept] = field(default_factory=list)
    promotions: list[Promoted] = field(default_factory=list)
    adopted: Swept = field(default_factory=Swept)
    error: Exception | None = None

    async def standing(self, *, now: datetime | None = None) -> Standing:
        if self.error:
            raise self.error
        return self.at

    async def odd(self, kind: Odd, limit: int, *, now: datetime | None = None) -> list[str]:
        return self.odd_ids.get(kind, [])

    async def fronts(self, limit: int, *, now: datetime | None = None) -> dict[LaneKey, list[Waiting]]:
        return self.rows

    async def newest(self, limit: int) -> list[tuple[str, State, int]]:
        return self.jobs

    async def get(self, tenant: str, job_id: str) -> Any:
        [found] = [row for row in self.jobs if row[0] == job_id]
        return SimpleNamespace(id=job_id, state=found[1], epoch=found[2])

    async def log_objects(self, limit: int, before: str | None = None) -> list[str]:
        return sorted((key for key in self.logs if before is None or key < before), reverse=True)[:limit]

    async def file_objects(
        self, limit: int, before: tuple[str, str] | None = None
    ) -> list[tuple[tuple[str, str], str]]:
        return sorted((row for row in self.files if before is None or row[0] < before), reverse=True)[:limit]

    async def named(self, objects: Sequence[str], job_ids: Sequence[str]) -> set[str]:
        mine = {key for (job_id, _), key in self.files if job_id in job_ids}
        return set(objects) & ({*self.logs} | mine)

    async def queues(self) -> list[QueueInfo]:
        return self.standings

    async def sweep(self, gap: float, *, limit: int = 500, now: datetime | None = None) -> Swept:
        return self.sweeps.pop(0)

    async def promote(self, limit: int = 500, *, now: datetime | None = None) -> Promoted:
        return self.promotions.pop(0)

    async def adopt(self, *, now: datetime | None = None) -> Swept:
        return self.adopted


class Listable(Objects):
    """Objects that can be listed, stored at a time by a clock of their own, which is `ahead` of this host's."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = timedelta()
        self.stored: dict[str, datetime] = {}

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        put = await super().put(key, data)
        self.stored[key] = datetime.now(UTC) + self.ahead
        return put

    async def aged(self, *keys: str) -> None:
        """Objects that were stored 90 minutes ago."""
        for key in keys:
            await self.put(key, b"")
            self.stored[key] -= timedelta(minutes=90)

    async def stat(self, key: str) -> ObjectInfo | None:
        return ObjectInfo(key, len(self.kept[key]), self.stored[key]) if key in self.kept else None

    async def listed(self, prefix: str) -> AsyncIterator[Listed]:
        for key, data in sorted(self.kept.items()):
            if key.startswith(prefix):
                yield Listed(key, len(data), self.stored[key])


@dataclass
class FakeBroker:
    """Lanes that stand as `stands` says, each with a consumer unless told otherwise."""

    stands: dict[LaneKey, LaneStanding | None] = field(default_factory=dict)
    given_up: int = 0
    error: TaskFlowError | None = None

    async def standing(self, lane: LaneKey) -> LaneStanding | None:
        if self.error:
            raise self.error
        return self.stands.get(lane, LaneStanding(0, 1))

    async def dead(self) -> int:
        return self.given_up


@dataclass
class House:
    """A deployment that is well until a test breaks it."""

    spool: Path
    store: FakeStore = field(default_factory=FakeStore)
    objects: Listable = field(default_factory=Listable)
    broker: FakeBroker = field(default_factory=FakeBroker)
    cache: MemoryCache = field(default_factory=MemoryCache)
    life: Life = Life.SHARED
    everything: bool = False
    shipped: int = 0

    async def ship(self) -> None:
        self.shipped += 1

    def deployment(self, **changes: Any) -> Deployment:
        store: Any = self.store
        made = Deployment(
            life=self.life,
            namespace="ns",
            sweep=0.01,
            gap=LEASE / 2,
            store=store,
            artifacts=self.objects,
            cache_key=lambda job_id: f"key:{job_id}",
            spool=self.spool,
            ship=self.ship,
            broker=self.broker,
            cache=self.cache,
            everything=self.everything,
        )
        return replace(made, **changes)

    async def told(self, check: Check, **changes: Any) -> list[Finding]:
        """What is wrong."""
        found = await check(self.deployment(**changes))
        return [finding for finding in found if finding.severity is not Severity.OK]

    async def mended(self, findings: Sequence[Finding]) -> list[str]:
        return await doctor.repair(findings)
