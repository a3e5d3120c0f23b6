"""What the store's conformance suite is made of: instants, jobs, workers, claims, endings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from taskflow.core.ids import new_id
from taskflow.core.job import Claim, Lane, LaneKey, NewJob, Outcome, RunsIn
from taskflow.core.job import Job as JobRow
from taskflow.core.lifecycle import Ending, Settlement, decide
from taskflow.core.retry import RetryPolicy
from taskflow.ports.store import StateStore, WorkerInfo

T0: Final = datetime(2026, 1, 1, tzinfo=UTC)
LANE: Final = LaneKey("default", Lane.NORMAL)
LEASE: Final = 30.0
GAP: Final = LEASE / 2


def at(seconds: float) -> datetime:
    """An instant so long after the suite's beginning of time."""
    return T0 + timedelta(seconds=seconds)


def job(**changes: Any) -> NewJob:
    """A job that can be stored."""
    values: dict[str, Any] = {
        "id": new_id(), "task": "t", "queue": "default", "priority": 5, "runs_in": RunsIn.ASYNC,
        "payload": '{"n": 1e2}', "max_attempts": 3, "timeout": 60.0,
    }  # fmt: skip
    return NewJob(**values | changes)


async def worker(store: StateStore, *tasks: str, now: datetime = T0, lease: float = LEASE) -> str:
    """A live worker that has these tasks."""
    name = f"w-{new_id()}"
    await store.register(
        WorkerInfo(id=name, host="h", pid=1, queues=(), tasks=tasks or ("t",), slots={}, lease=lease), now=now
    )
    return name


async def claimed(store: StateStore, by: str, now: datetime = T0, **changes: Any) -> Claim:
    """A job that a worker has claimed."""
    new = job(**changes)
    await store.insert([new], now=now)
    [claim] = await store.claim(by, [new.id], ["t"], now=now)
    return claim


def end(claim: Claim, outcome: Outcome, **values: Any) -> Settlement:
    """What the end of a run becomes."""
    return decide(claim, Ending(outcome=outcome, **values), RetryPolicy(), lambda: 0.0)


async def shown(store: StateStore, job_id: str) -> JobRow:
    """A job that must be there."""
    found = await store.get("default", job_id)
    assert found is not None
    return found
