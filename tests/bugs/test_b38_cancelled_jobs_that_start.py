"""A cancel that comes between the taking of a job and its start is overlooked, and the job runs all the same.

Seen in rq#2160, #2292 and #1669, also for a scheduled job. Right: the cancel flag is part of the claim. Either the answer
says that the job is cancelled, and nothing of it ever runs, or it says that the job runs already.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from taskflow.core.job import NewJob, Outcome, State
from taskflow.flow.loops import Bell
from taskflow.ports.store import StateStore
from taskflow.testing.store_facts import LANE, T0, at, claimed, end, job, shown, worker
from tests.acceptance.system import System
from tests.bug_report import Report
from tests.support import FULL

RACES = 5_000 if FULL else 150
SCHEDULED = 500 if FULL else 100
PROCESSES = 1_000 if FULL else 60
AT_ONCE = 25


async def test_a_cancel_and_a_claim_at_once(store: StateStore, report: Report) -> None:
    """One of them is first, and the other abides by it: by ticket and by draw."""
    me, seen = await worker(store), Counter[str]()

    async def race(draws: bool) -> None:
        new = job()
        await store.insert([new])

        async def start() -> bool:
            await Bell().wait(random.uniform(0, 0.004))
            if draws:
                return any(claim.id == new.id for claim in await store.draw(me, [LANE], ["t"], AT_ONCE))
            return bool(await store.claim(me, [new.id], ["t"]))

        async def cancel() -> State:
            await Bell().wait(random.uniform(0, 0.004))
            found = await store.cancel("default", new.id)
            assert found is not None
            return found.state

        runs, state = await asyncio.gather(start(), cancel())
        found = await shown(store, new.id)
        if state is State.CANCELLED:
            assert not runs
            assert (found.state, found.epoch, found.attempts) == (State.CANCELLED, 0, ())
        else:
            # Drawn by this one or, where others draw beside it, by one of them.
            assert state is State.RUNNING
            assert found.cancel_requested_at is not None
        seen[state] += 1

    for start in range(0, RACES, AT_ONCE):
        await asyncio.gather(*(race(draws=bool(start // AT_ONCE % 2)) for _ in range(AT_ONCE)))
    report("B38", scale=f"{RACES} races, {seen['running']} of them won by the claim", faults=seen["cancelled"])


async def test_every_way_out_of_a_cancelled_run_ends_it(store: StateStore, report: Report) -> None:
    """A run that is asked to stop and would be tried again, put off or rescued is cancelled instead."""
    ways = [Outcome.FAILED, Outcome.TIMEOUT, Outcome.SNOOZED, Outcome.INTERRUPTED, Outcome.CRASHED, Outcome.LOST]
    me = await worker(store)
    for outcome in ways:
        claim = await claimed(store, me, max_attempts=9)
        await store.cancel("default", claim.id, now=at(1))
        assert (await store.settle([end(claim, outcome)], now=at(1)))[0].state is State.CANCELLED
    for leave in ("release", "stop"):
        claim = await claimed(store, me)
        await store.cancel("default", claim.id, now=at(1))
        await (store.release(me, [(claim.id, 1)], now=at(1)) if leave == "release" else store.stop(me, now=at(1)))
        assert (await shown(store, claim.id)).state is State.CANCELLED
    report("B38", scale="8 ways out of a run", faults=len(ways) + 2)


async def test_a_scheduled_job_cancelled_as_it_falls_due(store: StateStore, report: Report) -> None:
    """Whoever promotes at that moment promotes it or finds it gone; a ticket of it starts nothing."""
    me, jobs = await worker(store), [job(delay=1.0) for _ in range(SCHEDULED)]
    await store.insert(jobs, now=T0)

    async def promote() -> list[str]:
        tickets = [(await store.promote(limit=50, now=at(1))).tickets for _ in range(SCHEDULED // 50)]
        return [ticket.job_id for some in tickets for ticket in some]

    async def cancel(some: Sequence[NewJob]) -> None:
        for one in some:
            await store.cancel("default", one.id, now=at(1))

    # No more at once than a store answers in its time.
    cancels = asyncio.gather(*(cancel(jobs[n::AT_ONCE]) for n in range(AT_ONCE)))
    promoted, _ = await asyncio.gather(promote(), cancels)
    assert not await store.claim(me, [one.id for one in jobs], ["t"], now=at(1))
    assert not await store.draw(me, [LANE], ["t"], SCHEDULED, now=at(1))
    for one in jobs:
        found = await shown(store, one.id)
        assert (found.state, found.epoch) == (State.CANCELLED, 0)
    report("B38", scale=f"{SCHEDULED} due, {len(promoted)} of them promoted first", faults=SCHEDULED)


def test_what_was_told_to_be_cancelled_leaves_no_trace(system: System, tmp_path: Path, report: Report) -> None:
    """From outside: 200 and no effect, or 202 or 409 and at most one."""
    effects, told = tmp_path / "effects", {}
    for n in range(PROCESSES):
        job_id = system.submit(
            "test.effect", {"path": str(effects), "key": str(n)}, **({"delay": 0.02} if n % 3 else {})
        )
        told[str(n)] = job_id, system.http.post(f"/jobs/{job_id}/cancel").status_code
    counted = Counter(code for _, code in told.values())
    assert set(counted) <= {200, 202, 409}
    for job_id, code in told.values():
        assert system.job(job_id, wait=20)["state"] in {200: ["cancelled"], 202: ["cancelled", "succeeded"]}.get(
            code, ["succeeded"]
        )
    keys = [line.split()[0] for line in effects.read_text().splitlines()] if effects.exists() else []
    assert len(keys) == len(set(keys))
    assert not set(keys) & {key for key, (_, code) in told.items() if code == 200}
    report("B38", scale=f"{PROCESSES} jobs over HTTP: {dict(counted)}", faults=counted[200])
