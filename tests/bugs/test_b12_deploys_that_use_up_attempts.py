"""What happens to a worker is charged to the jobs that it ran: some deploys, and their attempts are used up.

Seen in arq#267. Right: attempts count what a handler did. Interruptions and crashes are counted apart, each under a cap of
its own, so that a job that kills its workers ends among the failed ones all the same.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from taskflow.core.job import Claim, Outcome, State
from taskflow.core.limits import INTERRUPTIONS_MAX
from taskflow.ports.store import StateStore
from taskflow.testing.store_facts import GAP, LANE, T0, at, end, job, shown, worker
from tests.acceptance.system import System
from tests.bug_report import Report
from tests.support import until_sync

TIMES = 5
Leave = Callable[[StateStore, Claim, float], Awaitable[object]]


async def buried(store: StateStore, claim: Claim, second: float) -> None:
    """The worker is silent for a lease, under sweeps without a gap."""
    for moment in range(0, 40, 5):
        await store.sweep(GAP, now=at(second + moment))


LEAVES: dict[str, tuple[Leave, str]] = {
    "stopped while it ran": (
        lambda store, claim, second: store.settle([end(claim, Outcome.INTERRUPTED)], now=at(second)),
        "interruptions",
    ),
    "lost its lease": (
        lambda store, claim, second: store.settle([end(claim, Outcome.LOST)], now=at(second)),
        "interruptions",
    ),
    "left the row behind": (
        lambda store, claim, second: store.release(claim.worker, [(claim.id, claim.epoch)], now=at(second)),
        "interruptions",
    ),
    "stopped without a word of it": (
        lambda store, claim, second: store.stop(claim.worker, now=at(second)),
        "interruptions",
    ),
    "fell silent": (buried, "crashes"),
}


@pytest.mark.parametrize("way", LEAVES)
async def test_no_way_of_leaving_a_job_is_charged(way: str, store: StateStore, report: Report) -> None:
    """As often as a job may fail, and more often; then it fails once, and is tried again."""
    leave, counter = LEAVES[way]
    new = job(max_attempts=2)
    await store.insert([new], now=T0)
    for turn in range(TIMES):
        second = turn * 100.0
        me = await worker(store, now=at(second))
        claims = [await store.draw(me, [LANE], ["t"], 1, isolated=apart, now=at(second)) for apart in (False, True)]
        [claim] = [claim for some in claims for claim in some]
        assert (claim.tries, claim.attempt, getattr(claim, counter)) == (1, 1, turn)
        await leave(store, claim, second)
    me = await worker(store, now=at(1_000))
    for outcome, tries in ((Outcome.FAILED, 1), (Outcome.SUCCEEDED, 2)):
        await store.promote(now=at(1_000 + tries * 10))
        isolated = counter == "crashes"
        [claim] = await store.draw(me, [LANE], ["t"], 1, isolated=isolated, now=at(1_000 + tries * 10))
        assert claim.tries == tries
        await store.settle([end(claim, outcome)], now=at(1_000 + tries * 10))
    found = await shown(store, new.id)
    assert (found.state, found.attempt, getattr(found, counter)) == (State.SUCCEEDED, 2, TIMES)
    assert len(found.attempts) == TIMES + 2
    report("B12", scale=f"a worker that {way}, {TIMES} times", faults=TIMES)


async def test_a_cap_of_its_own_ends_it(store: StateStore, report: Report) -> None:
    """A job that nobody can finish is not begun for ever; nor is one that kills whatever runs it, once that is proved."""
    me, new = await worker(store), job()
    await store.insert([new], now=T0)
    for _ in range(INTERRUPTIONS_MAX + 1):
        [claim] = await store.claim(me, [new.id], ["t"], now=T0)
        await store.settle([end(claim, Outcome.INTERRUPTED)], now=T0)
    assert ((found := await shown(store, new.id)).state, found.reason) == (State.FAILED, "interrupted_too_often")
    crasher = job()
    await store.insert([crasher], now=T0)
    for isolated in (False, False, True):
        [claim] = await store.draw(me, [LANE], ["t"], 1, isolated=isolated, now=T0)
        await store.settle([end(claim, Outcome.CRASHED)], now=T0)
    assert ((found := await shown(store, crasher.id)).state, found.reason) == (State.FAILED, "poison")
    report("B12", scale=f"{INTERRUPTIONS_MAX + 1} interruptions, 3 crashes", faults=INTERRUPTIONS_MAX + 4)


@pytest.mark.full
def test_five_deploys_in_mid_run(system: System, report: Report) -> None:
    """Of real processes by SIGTERM; every job is done in its first attempt."""
    jobs = [system.submit("demo.sleep", {"seconds": 6}, max_attempts=3) for _ in range(10)]
    for _ in range(TIMES):
        until_sync(lambda: len(system.http.get("/jobs?state=running").json()["items"]) == len(jobs), 30)
        system.signal(signal.SIGTERM)
        assert system.wait() == {0}
        system.start()
    done = [system.job(job_id, wait=60) for job_id in jobs]
    assert {(one["state"], one["attempt"], one["interruptions"], one["crashes"]) for one in done} == {
        ("succeeded", 1, TIMES, 0)
    }
    outcomes = Counter(attempt["outcome"] for one in done for attempt in one["attempts"])
    assert outcomes == {"interrupted": TIMES * len(jobs), "succeeded": len(jobs)}
    report("B12", scale=f"{TIMES} deploys, {len(jobs)} jobs", faults=outcomes["interrupted"])
