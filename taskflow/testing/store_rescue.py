"""The store's suite, on upkeep: who is dead, what is rescued, what waits and what is swept away."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest

from taskflow.core.job import Outcome, State
from taskflow.core.limits import CRASHES_BEFORE_ISOLATION, CRASHES_MAX, INTERRUPTIONS_MAX, LEASE_SECONDS_MAX
from taskflow.ports.store import Beat, StateStore, WorkerInfo
from taskflow.testing.store_facts import GAP, LANE, T0, at, claimed, end, job, shown, worker


class RescueConformance:
    """Beats, sweeps and promotions."""

    async def test_a_promotion_tells_when_the_next_is_due(self, store: StateStore) -> None:
        """Nothing scheduled is no time at all; a full batch says that there is more."""
        await store.insert([job(delay=5), job(delay=5), job(delay=9)], now=T0)
        first = await store.promote(1, now=at(5))
        second = await store.promote(2, now=at(5))
        third = await store.promote(now=at(10))
        told = [(len(promoted.tickets), promoted.more, promoted.next_due) for promoted in (first, second, third)]
        assert told == [(1, True, 0.0), (1, False, 4.0), (1, False, None)]

    async def test_a_wished_cancel_wins_over_the_last_crash_and_over_the_last_interruption(
        self, store: StateStore
    ) -> None:
        """Nobody wants the job any more: it is no dead letter."""
        unlucky = job()
        await store.insert([unlucky], now=T0)
        for crash in range(CRASHES_MAX + 1):
            me = await worker(store)
            await store.draw(me, [LANE], ["t"], 1, isolated=crash >= CRASHES_BEFORE_ISOLATION, now=T0)
            if crash == CRASHES_MAX:
                await store.cancel("default", unlucky.id, now=at(1))
            await store.adopt(now=at(2))
        after = await shown(store, unlucky.id)
        assert (after.state, {attempt.outcome for attempt in after.attempts}, len(after.attempts)) == (
            State.CANCELLED,
            {Outcome.CRASHED},
            CRASHES_MAX + 1,
        )

    async def test_interruptions_have_an_end(self, store: StateStore) -> None:
        """A job that is given back again and again is a dead letter that says so."""
        me = await worker(store)
        claim = await claimed(store, me)
        for _ in range(INTERRUPTIONS_MAX):
            assert len(await store.release(me, [(claim.id, claim.epoch)], now=T0)) == 1
            [claim] = await store.claim(me, [claim.id], ["t"], now=T0)
        assert await store.release(me, [(claim.id, claim.epoch)], now=T0) == []
        after = await shown(store, claim.id)
        assert (after.state, after.reason, after.attempt) == (State.FAILED, "interrupted_too_often", 0)

    async def test_only_what_is_named_and_mine_is_released(self, store: StateStore) -> None:
        """Neither another epoch nor another's run."""
        me, other = await worker(store), await worker(store)
        mine, theirs = await claimed(store, me), await claimed(store, other)
        assert await store.release(me, [(mine.id, 2), (theirs.id, 1)], now=at(1)) == []
        assert [(await shown(store, claim.id)).state for claim in (mine, theirs)] == [State.RUNNING] * 2

    async def test_in_grace_a_deadline_waits_too(self, store: StateStore) -> None:
        """A gap in the sweeps may be a gap in everything."""
        me = await worker(store)
        claim = await claimed(store, me, timeout=10.0)
        swept = await store.sweep(GAP, now=at(500))
        assert (swept.in_grace, swept.rescued) == (True, 0)
        assert (await shown(store, claim.id)).state is State.RUNNING

    async def test_each_worker_is_judged_by_its_own_lease(self, store: StateStore) -> None:
        """Whoever sweeps: one that goes on for two minutes is not taken over from while it does."""
        short, long = await worker(store, lease=10.0), await worker(store, lease=120.0)
        for each in (short, long):
            await claimed(store, each, timeout=1_000.0)
        died: dict[str, int] = {}
        for moment in range(0, 130, 5):
            swept = await store.sweep(GAP, now=at(moment))
            died |= dict.fromkeys(swept.dead_workers, moment)
            assert swept.rescued == len(swept.dead_workers)
        assert died == {short: 15, long: 125}

    async def test_after_a_gap_each_has_its_own_lease_to_be_heard(self, store: StateStore) -> None:
        """However often another looks for whom every pause is a gap; so has whoever runs what is past its deadline."""
        short, long = await worker(store, lease=10.0), await worker(store, lease=120.0)
        late = [await claimed(store, each, timeout=1.0) for each in (short, long)]
        for moment in range(1_000, 1_125, 5):
            for each in (short, long):
                assert (await store.beat(each, now=at(moment))).alive
            swept = await store.sweep(GAP, now=at(moment))
            assert swept.in_grace == (moment < 1_120)
            ended = [(await shown(store, claim.id)).state is not State.RUNNING for claim in late]
            assert ended == [moment >= 1_010, moment >= 1_120], moment
        died: dict[str, int] = {}
        await store.sweep(1.0, now=at(1_122))
        for moment in range(1_125, 1_260, 5):
            died |= dict.fromkeys((await store.sweep(GAP, now=at(moment))).dead_workers, moment)
        assert died == {short: 1_135, long: 1_245}

    @pytest.mark.parametrize("spoilt", [-5.0, 0.0, 0.999, 3_601.0, 1e300, math.inf])
    async def test_a_lease_that_no_setting_allows_is_the_longest(self, store: StateStore, spoilt: float) -> None:
        """Nobody knows how long its worker goes on: its jobs are neither taken from it at once nor kept for ever."""
        me = await worker(store, lease=spoilt)
        assert [info.lease for info in await store.workers()] == [LEASE_SECONDS_MAX]
        claim = await claimed(store, me, timeout=10_000.0)
        for moment in (0, 3_000, 3_600):
            swept = await store.sweep(3_000, now=at(moment))
            assert (list(swept.dead_workers), swept.rescued) == ([], 0)
        swept = await store.sweep(3_000, now=at(3_601))
        assert (list(swept.dead_workers), [ticket.job_id for ticket in swept.tickets]) == ([me], [claim.id])

    async def test_a_clock_that_was_set_back_gives_grace(self, store: StateStore) -> None:
        """A last sweep that lies ahead is a gap, and an old promise of grace does not outlive it."""
        await worker(store, now=T0)
        await store.sweep(GAP, now=at(10_000))
        assert (await store.sweep(GAP, now=T0)).in_grace
        for moment in range(5, 31, 5):
            swept = await store.sweep(GAP, now=at(moment))
        assert not swept.in_grace

    async def test_rows_of_the_dead_are_rescued_in_grace(self, store: StateStore) -> None:
        """Who is dead is decided by time; whose rows these are is not."""
        me, other = await worker(store), await worker(store)
        for _ in range(2):
            await claimed(store, me)
        for moment in range(0, 31, 5):
            await store.beat(other, now=at(moment))
            swept = await store.sweep(GAP, limit=1, now=at(moment + 1))
        assert (list(swept.dead_workers), swept.rescued, swept.in_grace) == ([me], 1, False)
        after_a_gap = await store.sweep(GAP, now=at(1_000))
        assert (list(after_a_gap.dead_workers), after_a_gap.rescued, after_a_gap.in_grace) == ([], 1, True)

    async def test_a_rescue_says_why_also_where_a_cancel_was_wished(self, store: StateStore) -> None:
        """In the closing record and in the job, which is cancelled."""
        dead, other = await worker(store), await worker(store)
        crashed, lost = await claimed(store, dead), await claimed(store, other, timeout=1.0)
        for claim in (crashed, lost):
            await store.cancel("default", claim.id, now=at(1))
        for moment in range(0, 41, 5):
            await store.beat(other, now=at(moment))
            await store.sweep(GAP, now=at(moment))
        for claim, outcome, why in ((crashed, Outcome.CRASHED, "WorkerDied"), (lost, Outcome.LOST, "Lost")):
            after = await shown(store, claim.id)
            [record] = after.attempts
            assert (after.state, record.outcome) == (State.CANCELLED, outcome)
            assert [error and error.type for error in (after.error, record.error)] == [why, why]

    async def test_adopting_needs_no_grace_and_leaves_none(self, store: StateStore) -> None:
        """The lock is proof enough; the next sweep is an ordinary one, which nobody's silence survives a lease longer."""
        me = await worker(store)
        claim = await claimed(store, me)
        adopted = await store.adopt(now=at(1))
        assert (list(adopted.dead_workers), [ticket.job_id for ticket in adopted.tickets]) == ([me], [claim.id])
        assert not (await store.beat(me, now=at(2))).alive
        assert not (await store.sweep(GAP, now=at(3))).in_grace
        silent = await worker(store, now=at(3))
        for moment in range(5, 40, 5):
            swept = await store.sweep(GAP, now=at(moment))
        assert list(swept.dead_workers) == [silent]

    async def test_everything_that_waits_expires_and_what_runs_does_not(self, store: StateStore) -> None:
        """Scheduled, waiting, queued and retrying; an expired job is over."""
        me = await worker(store)
        running, retrying = await claimed(store, me, expires_at=at(50)), await claimed(store, me, expires_at=at(50))
        await store.settle([end(retrying, Outcome.FAILED, after=900.0)], now=at(1))
        waiting = [job(expires_at=at(50)), job(expires_at=at(50), delay=900), job(expires_at=at(50), task="none")]
        await store.insert(waiting, now=T0)
        await store.sweep(GAP, now=at(49))
        assert (await shown(store, waiting[2].id)).state is State.WAITING
        swept = await store.sweep(GAP, now=at(50))
        gone = {retrying.id, *(new.id for new in waiting)}
        assert (swept.expired, {job_id for job_id, state in swept.changed if state is State.EXPIRED}) == (4, gone)
        assert {(await shown(store, job_id)).finished_at for job_id in gone} == {at(50)}
        assert (await shown(store, running.id)).state is State.RUNNING

    async def test_rows_are_parked_in_batches_and_come_back_together(self, store: StateStore) -> None:
        """The worker that registers brings all of its tasks' rows, and the next sweep leaves them there."""
        await worker(store, "other")
        new = [job() for _ in range(3)]
        await store.insert(new, now=T0)
        assert [(await store.sweep(GAP, limit=2, now=T0)).parked for _ in range(3)] == [2, 1, 0]
        tickets = await store.register(
            WorkerInfo(id="w", host="h", pid=1, queues=(), tasks=("t",), slots={}, lease=30.0), now=at(1)
        )
        assert {ticket.job_id for ticket in tickets} == {one.id for one in new}
        swept = await store.sweep(GAP, now=at(2))
        assert (swept.parked, swept.unparked) == (0, 0)

    async def test_workers_that_ended_long_ago_are_not_shown(self, store: StateStore) -> None:
        """The living are, and those of the last day, newest first."""
        now = datetime.now(UTC)
        silent, old, new = [await worker(store, now=now - timedelta(hours=hours)) for hours in (50, 40, 30)]
        await store.stop(old, now=now - timedelta(hours=25))
        await store.stop(new, now=now - timedelta(hours=23))
        assert [(info.id, info.state) for info in await store.workers()] == [(new, "stopped"), (silent, "alive")]

    async def test_a_heart_beats_on_a_loop_of_its_own(self, store: StateStore) -> None:
        """In another thread, at the same time as others write."""
        me = await worker(store)

        async def beat() -> Beat:
            async with store.heart() as workers:
                return await workers.beat(me, now=at(1))

        beats = asyncio.gather(*(asyncio.to_thread(asyncio.run, beat()) for _ in range(3)))
        await store.insert([job() for _ in range(50)], now=T0)
        assert all(answer.alive for answer in await beats)

    async def test_the_store_proves_that_it_can_write(self, store: StateStore) -> None:
        """And knows its schema."""
        await store.ping()
        assert await store.revision()
