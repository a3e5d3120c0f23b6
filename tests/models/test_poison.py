"""One job kills every worker that runs it. It alone is quarantined; those that ran beside it are not."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import pytest

from taskflow.core.job import Claim, Outcome, State
from taskflow.core.lifecycle import Ending, decide
from taskflow.core.retry import RetryPolicy
from taskflow.ports.store import JobQuery, WorkerInfo
from taskflow.testing.memory import MemoryStore
from taskflow.testing.store_facts import GAP, LANE, T0, at, job

POISON: Final = "poison"
INNOCENTS: Final = 50
SLOTS: Final = 32
KILLS_AFTER, RUNS_FOR, RESTARTS_AFTER, PERIOD = 0.2, 60.0, 2.0, 5.0
PATIENCE: Final = 3_600.0


@dataclass(slots=True)
class Process:
    """A worker with its slots and the one isolation slot; each start has a new id."""

    name: str
    starts: int = 0
    up: bool = False
    runs: list[Claim] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The present one."""
        return f"{self.name}-{self.starts}"


class Cluster:
    """Two workers, one sweep, and a clock that jumps from event to event."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.second = 0.0
        self.store = MemoryStore(self.now)
        self.processes = [Process("one"), Process("other")]
        self.deaths = 0
        self._numbers: Iterator[int] = iter(range(1 << 30))
        self._events: list[tuple[float, int, str, Process | None, Claim | None]] = []

    def now(self) -> datetime:
        """The virtual instant."""
        return at(self.second)

    def later(self, seconds: float, what: str, process: Process | None = None, claim: Claim | None = None) -> None:
        """Something will happen."""
        heapq.heappush(self._events, (self.second + seconds, next(self._numbers), what, process, claim))

    async def run(self) -> None:
        """Until every job is over."""
        jobs = [job(id=f"innocent-{number}") for number in range(INNOCENTS)]
        jobs.insert(self.chance.randrange(INNOCENTS), job(id=POISON))
        await self.store.insert(jobs)
        for each in self.processes:
            self.later(0, "start", each)
            self.later(self.chance.uniform(0, PERIOD), "tick", each)
        self.later(self.chance.uniform(0, PERIOD), "sweep")
        while self._events and self.second < PATIENCE:
            self.second, _, what, process, claim = heapq.heappop(self._events)
            if what == "sweep":
                await self.store.sweep(GAP)
                self.later(PERIOD, "sweep")
            elif process is not None:
                await self._of(process, what, claim)

    async def _of(self, process: Process, what: str, claim: Claim | None) -> None:
        if what == "start":
            process.starts, process.up = process.starts + 1, True
            info = WorkerInfo(id=process.id, host="h", pid=1, queues=(), tasks=("t",), slots={}, lease=30.0)
            await self.store.register(info)
        elif what == "tick":
            self.later(PERIOD, "tick", process)
            if process.up:
                await self.store.beat(process.id)
        elif claim is not None and claim in process.runs:
            await self._end(process, claim)
        if process.up:
            await self._fill(process)

    async def _end(self, process: Process, claim: Claim) -> None:
        if claim.id == POISON and not claim.isolated:
            # The whole process is gone, without a word: what else it ran is rescued by the sweep.
            self.deaths += 1
            process.runs, process.up = [], False
            self.later(RESTARTS_AFTER, "start", process)
            return
        process.runs.remove(claim)
        outcome = Outcome.CRASHED if claim.id == POISON else Outcome.SUCCEEDED
        await self.store.settle([decide(claim, Ending(outcome=outcome), RetryPolicy())])

    async def _fill(self, process: Process) -> None:
        apart = sum(claim.isolated for claim in process.runs)
        free = self.chance.randint(1, SLOTS) - (len(process.runs) - apart)
        claims = await self.store.draw(process.id, [LANE], ["t"], max(0, free))
        claims += await self.store.draw(process.id, [LANE], ["t"], 1 - apart, isolated=True)
        for claim in claims:
            process.runs.append(claim)
            self.later(KILLS_AFTER if claim.id == POISON else RUNS_FOR, "end", process, claim)


@pytest.mark.parametrize("seed", range(20))
async def test_who_ran_beside_a_poison_is_never_quarantined(seed: int) -> None:
    """However the jobs were spread; and the poison is found at its third death, the first one that it died alone."""
    cluster = Cluster(seed)
    await cluster.run()
    found = {one.id: one for one in await cluster.store.find(JobQuery(tenant="default", limit=1_000))}
    poison = found.pop(POISON)
    assert (poison.state, poison.reason, poison.crashes) == (State.FAILED, "poison", 3)
    assert {one.state for one in found.values()} == {State.SUCCEEDED}
    assert cluster.deaths == 2
    # Or nobody stood beside it.
    assert any(one.crashes for one in found.values())
    assert cluster.now() - T0 >= timedelta(seconds=PATIENCE)
