"""What an earlier run counted is held against a job that somebody starts again by hand.

Seen in gbrain#2974 and bullmq#3555: a replayed job kept its old start, attempts or stalls, and died within a second.
Right: whatever it failed of, a replayed job has its full budget again; the history of its runs is kept.
"""

from __future__ import annotations

import pytest

from taskflow.core import lifecycle
from taskflow.core.job import Claim, LaneKey, Outcome, State
from taskflow.core.limits import INTERRUPTIONS_MAX, SNOOZES_MAX
from taskflow.ports.store import StateStore
from taskflow.testing.store_facts import GAP, LANE, T0, at, end, job, shown, worker
from tests.bug_report import Report
from tests.support import FULL

LATER = 10_000.0
"""Seconds until somebody replays it: long after its deadline and its expiry."""
BUDGET = 3
KINDS = {
    "attempts_used_up": (Outcome.TIMEOUT, BUDGET),
    "interrupted_too_often": (Outcome.INTERRUPTED, INTERRUPTIONS_MAX + 1),
    "snoozed_too_often": (Outcome.SNOOZED, SNOOZES_MAX + 1 if FULL else 21),
    "poison": (Outcome.CRASHED, 3),
}


async def run(store: StateStore, by: str, second: float) -> Claim:
    """The next run of the only job there is."""
    await store.promote(now=at(second))
    lanes: list[LaneKey] = [LANE]
    found = await store.draw(by, lanes, ["t"], 1, now=at(second))
    [claim] = found or await store.draw(by, lanes, ["t"], 1, isolated=True, now=at(second))
    return claim


@pytest.mark.parametrize("reason", KINDS)
async def test_a_replay_begins_anew(
    reason: str, store: StateStore, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every counter that can end a job is at its limit; then it fails as often as a new one may, and succeeds."""
    outcome, times = KINDS[reason]
    monkeypatch.setattr(lifecycle, "SNOOZES_MAX", KINDS["snoozed_too_often"][1] - 1)
    me, new = await worker(store), job(max_attempts=BUDGET, expires_at=at(LATER - 1), timeout=60.0)
    await store.insert([new], now=T0)
    second = 0.0
    for _ in range(times):
        claim = await run(store, me, second)
        [settled] = await store.settle([end(claim, outcome)], now=at(second))
        second += 5
    assert settled.state is State.FAILED
    assert (await shown(store, new.id)).reason == reason

    await store.replay("default", new.id, now=at(LATER))
    # Its old deadline and expiry are long over, and mean nothing any more.
    await store.beat(me, now=at(LATER))
    assert (await store.sweep(GAP, now=at(LATER))).rescued == 0
    assert (await shown(store, new.id)).state is State.QUEUED
    again, second = [], LATER
    for number in range(1, BUDGET + 1):
        claim = await run(store, me, second)
        assert (claim.tries, claim.crashes, claim.interruptions, claim.snoozes, claim.run) == (number, 0, 0, 0, 2)
        assert (await store.sweep(GAP, now=at(second))).rescued == 0
        again.append(Outcome.SUCCEEDED if number == BUDGET else Outcome.FAILED)
        await store.settle([end(claim, again[-1], result="1" if number == BUDGET else None)], now=at(second))
        second += 5
    done = await shown(store, new.id)
    assert (done.state, done.run) == (State.SUCCEEDED, 2)
    assert [attempt.outcome for attempt in done.attempts][times:] == again
    assert [attempt.outcome for attempt in done.attempts][:times] == [outcome] * times
    report("B13", scale=f"failed as {reason}, replayed {LATER:.0f} s later, {BUDGET} attempts more", faults=times)
