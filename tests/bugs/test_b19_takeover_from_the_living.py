"""The time between two beats is that after which a worker counts as dead: one late beat, and a job runs twice at once.

Seen in pgqueuer#430 and #323. Right: several beats fit into a lease, whatever lease is set; a worker half of whose beats are
lost keeps what it runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskflow.core.errors import StoreUnavailable
from taskflow.core.job import Outcome, State
from taskflow.flow.heart import Heart
from taskflow.ports.store import Beat, StateStore, Workers
from taskflow.testing.store_facts import at, claimed, end, shown, worker
from taskflow.wiring.settings import Settings, SettingsError, load
from tests.bug_report import Report
from tests.support import FULL, until

LEASE, RUN = 60.0, 300.0
REAL = 12.0 if FULL else 1.0
LEASES = 5 if FULL else 3
"""The run by a real clock: its lease, and how many of them it lasts."""


def configured(lease: float) -> Settings:
    """The settings that come of a lease."""
    return load("run", {}, {"TASKFLOW_CONSUMER_LEASE": repr(lease)}, None)


def test_several_beats_fit_into_any_lease(report: Report) -> None:
    """And every second one may be lost before a worker stops what it runs, which is before anybody else takes it."""

    @settings(max_examples=500 if FULL else 20, deadline=None, database=None)
    @given(st.floats(1, 3_600))
    def holds(lease: float) -> None:
        made = configured(lease).lease
        assert made.beat <= made.length / 3
        assert 2 * made.beat < made.fence <= made.length - made.beat

    holds()
    for name, wrong in (("LEASE", "0.9"), ("LEASE", "0"), ("BEAT", "20"), ("HEARTBEAT", "1"), ("FENCE", "1")):
        with pytest.raises(SettingsError, match=f"(?i){name}"):
            load("run", {}, {f"TASKFLOW_CONSUMER_{name}": wrong}, None)
    report("B19", scale="leases from 1 s to 1 h", faults=5)


async def test_half_of_the_beats_are_lost(store: StateStore, report: Report) -> None:
    """For five leases; the worker keeps its row, and what it ran is accepted."""
    lease, lost = configured(LEASE), 0
    claim = await claimed(store, await worker(store, now=at(0)), now=at(0), timeout=RUN)
    other = await worker(store, now=at(0))
    period = lease.lease.beat
    for turn in range(1, int(RUN / period)):
        now = turn * period
        await store.beat(other, now=at(now))
        if turn % 2:
            lost += 1
        else:
            assert (await store.beat(claim.worker, now=at(now))).alive
        for moment in (now, now + lease.sweep - 0.1):
            swept = await store.sweep(lease.gap, now=at(moment))
            assert (swept.rescued, list(swept.dead_workers)) == (0, [])
    [settled] = await store.settle([end(claim, Outcome.SUCCEEDED, result="1")], now=at(RUN))
    assert settled.state is State.SUCCEEDED
    assert len((await shown(store, claim.id)).attempts) == 1
    report("B19", scale=f"a run of {RUN:.0f} s under a lease of {LEASE:.0f} s, by a clock of ours", faults=lost)


class Lossy:
    """A store that takes every second beat only."""

    def __init__(self) -> None:
        self.asked = self.lost = 0

    async def beat(self, worker: str) -> Beat:
        """Answer, or fail."""
        self.asked += 1
        if self.asked % 2:
            return Beat(alive=True)
        self.lost += 1
        raise StoreUnavailable("this beat was lost")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Workers]:
        """The connection of a heart."""
        yield cast("Workers", self)


async def test_a_worker_does_not_fence_itself_over_lost_beats(report: Report) -> None:
    """The heart as it is, by a real clock."""
    store, made, fenced = Lossy(), configured(REAL).lease, asyncio.Event()
    heart = Heart(store.connect, "w", period=made.beat, fence_after=made.fence, heard=lambda *_: None, fence=fenced.set)
    heart.start()
    try:
        began = time.monotonic()
        await until(lambda: fenced.is_set() or time.monotonic() - began > LEASES * REAL, 2 * LEASES * REAL)
        assert not fenced.is_set()
    finally:
        await heart.stop()
    report("B19", scale=f"{LEASES} leases of {REAL:g} s, {store.asked} beats", faults=store.lost)
