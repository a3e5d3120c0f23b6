"""A clean-up that judges by time alone takes a job that is over for one whose worker is gone.

Seen in rq#2424: minutes after its success a job was moved to the failed ones, as abandoned.
Right: a sweep changes only what runs under the very token it looked at; no state that is final ever changes.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from taskflow.core.ids import new_id
from taskflow.core.job import Outcome, State
from taskflow.core.limits import LEASE_SECONDS_MIN
from taskflow.flow.loops import Bell
from taskflow.ports.store import StateStore, WorkerInfo
from taskflow.testing.store_facts import LANE, end, job, shown
from tests.bug_report import Report
from tests.support import FULL

JOBS = 10_000 if FULL else 600
BATCH = 25
LEASE = LEASE_SECONDS_MIN
"""The shortest; a beat that is late by what was reported, half a second, is too late."""


class Race:
    """Workers that beat late, and sweeps that never rest."""

    def __init__(self, store: StateStore) -> None:
        self.store = store
        self.over: dict[str, State] = {}
        self.seen: Counter[str] = Counter()

    async def work(self) -> None:
        """Draw, run for a moment and settle, as a worker that is often thought dead and then registers anew."""
        me = await born(self.store)
        while self.goes_on:
            claims = await self.store.draw(me, [LANE], ["t"], BATCH)
            claims += await self.store.draw(me, [LANE], ["t"], 1, isolated=True)
            pause = random.choice([0.0, 0.01, 0.05]) if random.random() < 0.8 else LEASE + 0.5
            await Bell().wait(pause)
            settled = await self.store.settle([end(claim, Outcome.SUCCEEDED, result="1") for claim in claims])
            for one in settled:
                if one.state is None:
                    self.seen["refused"] += 1
                else:
                    assert self.over.setdefault(one.job_id, one.state) == one.state
                    self.seen["accepted"] += 1
            if not (await self.store.beat(me)).alive:
                self.seen["declared dead"] += 1
                me = await born(self.store)

    async def sweep(self) -> None:
        """All the time."""
        while self.goes_on:
            before = set(self.over)
            assert not {job_id for job_id, _ in (await self.store.sweep(LEASE / 2)).changed} & before
            self.seen["sweeps"] += 1
            await Bell().wait(0.001)

    @property
    def goes_on(self) -> bool:
        """Until everything is over and somebody was thought dead meanwhile."""
        return len(self.over) < JOBS or not self.seen["declared dead"]


async def born(store: StateStore) -> str:
    """A worker that is alive now."""
    name = f"w-{new_id()}"
    await store.register(WorkerInfo(id=name, host="h", pid=1, queues=(), tasks=("t",), slots={}, lease=LEASE))
    return name


async def test_sweeps_touch_nothing_that_is_over(store: StateStore, report: Report) -> None:
    """Each job is accepted once, and is afterwards what it was then."""
    jobs = [job() for _ in range(JOBS)]
    for start in range(0, JOBS, 500):
        await store.insert(jobs[start : start + 500])
    race = Race(store)
    await asyncio.gather(*(race.work() for _ in range(4)), *(race.sweep() for _ in range(2)))
    assert race.seen["accepted"] == JOBS
    left, moment = 0, datetime.now(UTC)
    for _ in range(8):
        moment += timedelta(seconds=LEASE / 4)
        swept = await store.sweep(LEASE, now=moment)
        left += len(swept.dead_workers)
        assert not swept.changed
    assert left
    for one in jobs if FULL else jobs[::7]:
        found = await shown(store, one.id)
        outcomes = Counter(attempt.outcome for attempt in found.attempts)
        assert (found.state, outcomes[Outcome.SUCCEEDED]) == (State.SUCCEEDED, 1)
    report(
        "B18",
        scale=f"{JOBS} jobs, {race.seen['sweeps']} sweeps, {race.seen['refused']} late endings refused",
        faults=race.seen["declared dead"],
    )
