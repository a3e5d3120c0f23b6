"""What every store must do: the conformance suite of the store port. Subclass it and give it a `store` fixture."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from taskflow.core.errors import Conflict, DataRejected
from taskflow.core.ids import new_id
from taskflow.core.job import ErrorInfo, Idempotency, Lane, NewJob, Outcome, RunsIn, State
from taskflow.core.limits import CRASHES_BEFORE_ISOLATION, CRASHES_MAX
from taskflow.ports.store import ArtifactInfo, JobQuery, Segment, StateStore, TaskInfo, WorkerInfo
from taskflow.testing.store_facts import GAP, LANE, LEASE, T0, at, claimed, end, job, worker
from taskflow.testing.store_rescue import RescueConformance
from taskflow.testing.store_tokens import TokenConformance


class StoreConformance(TokenConformance, RescueConformance):
    """One instance per test, over an empty store with its schema installed."""

    @pytest.fixture
    async def store(self) -> StateStore:
        """The store under test; subclasses give it."""
        raise NotImplementedError

    async def test_a_job_is_shown_as_it_was_submitted(self, store: StateStore) -> None:
        """JSON texts byte for byte; the instants are the store's."""
        new = job(tags='["a","b"]', metadata='{"k": -0.0}', priority=9)
        [inserted] = await store.insert([new], now=at(1))
        shown = await store.get("default", new.id)
        assert shown is not None
        assert inserted.ticket is not None
        assert (inserted.created, inserted.ticket.lane.lane) == (True, Lane.HIGH)
        assert (shown.payload, shown.tags, shown.metadata) == (new.payload, new.tags, new.metadata)
        assert (shown.state, shown.created_at, shown.attempts) == (State.QUEUED, at(1), ())
        assert await store.get("other", new.id) is None

    @pytest.mark.parametrize("tasks", ["t", "tu"])
    @pytest.mark.parametrize("when", [{}, {"delay": 90.0}, {"run_at": at(90)}], ids=["now", "delay", "run_at"])
    async def test_a_batch_is_stored_as_its_jobs_were(
        self, store: StateStore, when: dict[str, Any], tasks: str
    ) -> None:
        """Whether they differ in their payloads only or not."""
        same = {"priority": 8, "timeout": 7.5, "expires_at": at(500), "tags": '["a"]', **when}
        jobs = [job(task=tasks[n % len(tasks)], payload=f'{{"n":{n}}}', **same) for n in range(12)]
        due = at(90) if when else None
        for new, one in zip(jobs, await store.insert(jobs, now=T0), strict=True):
            shown = await store.get("default", new.id)
            assert shown is not None
            assert (one.job_id, one.created, one.ticket is None) == (new.id, True, due is not None)
            assert (shown.state, shown.created_at, shown.run_at) == (one.state, one.created_at, one.run_at)
            assert (one.created_at, one.run_at) == (T0, due)
            said = [name for name in NewJob._fields if name not in {"run_at", "delay", "idempotency", "runs_in"}]
            assert [getattr(shown, name) for name in said] == [getattr(new, name) for name in said]

    async def test_an_instant_has_an_age_by_the_stores_clock(self, store: StateStore) -> None:
        """Whatever the clock of the process says."""
        assert await store.age(at(1), now=at(3.5)) == 2.5
        new = job()
        await store.insert([new])
        shown = await store.get("default", new.id)
        assert shown is not None
        assert 0 <= await store.age(shown.created_at) < 60

    async def test_one_refused_row_leaves_nothing_of_its_batch(self, store: StateStore) -> None:
        """All or none."""
        good, bad = job(), job(priority=99)
        with pytest.raises(DataRejected):
            await store.insert([good, bad])
        assert await store.get("default", good.id) is None

    async def test_a_key_is_used_once(self, store: StateStore) -> None:
        """Many submits at once with one key make one job; the others learn whose it is. After a day it is free."""
        jobs = [job(idempotency=Idempotency("jobs", "k", f"f{n}")) for n in range(60)]
        answers = [a for [a] in await asyncio.gather(*(store.insert([new], now=T0) for new in jobs))]
        [winner] = [a for a in answers if a.created]
        assert {a.job_id for a in answers} == {winner.job_id}
        assert all(a.ticket is None and a.fingerprint for a in answers if not a.created)
        [later] = await store.insert([job(idempotency=Idempotency("jobs", "k", "f"))], now=at(86_401))
        assert later.created

    async def test_a_delayed_job_is_promoted_when_it_is_due(self, store: StateStore) -> None:
        """Not before; the next due time is told."""
        new = job(delay=10)
        [inserted] = await store.insert([new], now=T0)
        assert (inserted.state, inserted.ticket) == (State.SCHEDULED, None)
        early = await store.promote(now=at(4))
        assert (list(early.tickets), early.next_due) == ([], 6)
        due = await store.promote(now=at(10))
        assert [ticket.job_id for ticket in due.tickets] == [new.id]

    async def test_one_of_two_claims_wins(self, store: StateStore) -> None:
        """By compare-and-set; the token is new."""
        new = job()
        await store.insert([new], now=T0)
        workers = [await worker(store) for _ in range(2)]
        claims = await asyncio.gather(*(store.claim(name, [new.id], ["t"], now=T0) for name in workers))
        [claim] = [claim for found in claims for claim in found]
        assert (claim.epoch, claim.attempt, claim.tries) == (1, 1, 1)

    @pytest.mark.parametrize(
        "obstacle", ["task", "paused", "expired", "dead worker", "cancelled", "scheduled", "suspect"]
    )
    async def test_what_may_not_run_is_not_claimed(self, store: StateStore, obstacle: str) -> None:
        """Neither by ticket nor by draw: each condition is part of the statement."""
        await store.ensure_queues(["default"])
        me = await worker(store)
        changes: dict[str, Any] = {"expires_at": at(1)} if obstacle == "expired" else {}
        new = job(**changes, **({"delay": 60} if obstacle == "scheduled" else {}))
        await store.insert([new], now=T0)
        tasks = ["other"] if obstacle == "task" else ["t"]
        if obstacle == "paused":
            assert await store.pause("default", "stop")
        elif obstacle == "dead worker":
            await store.stop(me, now=T0)
        elif obstacle == "cancelled":
            await store.cancel("default", new.id, now=T0)
        elif obstacle == "suspect":
            for _ in range(2):
                [claim] = await store.claim(me, [new.id], tasks, now=T0)
                await store.settle([end(claim, Outcome.CRASHED)], now=T0)
        assert await store.claim(me, [new.id], tasks, now=at(2)) == []
        assert await store.draw(me, [LANE], tasks, 9, now=at(2)) == []
        assert len(await store.draw(me, [LANE], tasks, 9, isolated=True, now=at(2))) == (obstacle == "suspect")

    async def test_draws_take_the_oldest_first_and_honour_the_front(self, store: StateStore) -> None:
        """Up to the limit; a busy worker's only behind the front."""
        me, new = await worker(store), [job() for _ in range(5)]
        for second, one in enumerate(new):
            await store.insert([one], now=at(second))
        behind = await store.draw(me, [LANE], ["t"], 9, queued_before={LANE: at(1)}, now=at(9))
        rest = await store.draw(me, [LANE], ["t"], 3, now=at(9))
        assert [claim.id for claim in [*behind, *rest]] == [one.id for one in new[:4]]

    async def test_success_ends_a_job_for_good(self, store: StateStore) -> None:
        """One attempt record, the result kept, nothing changes it any more."""
        me = await worker(store)
        claim = await claimed(store, me)
        done = end(claim, Outcome.SUCCEEDED, result='{"x":1e2}')
        [settled] = await store.settle([done], now=at(3))
        assert settled.state is State.SUCCEEDED
        shown = await store.get("default", claim.id)
        assert shown is not None
        assert (shown.state, shown.result, shown.finished_at) == (State.SUCCEEDED, '{"x":1e2}', at(3))
        assert [(a.epoch, a.outcome, a.finished_at) for a in shown.attempts] == [(1, Outcome.SUCCEEDED, at(3))]
        cancelled = await store.cancel("default", claim.id)
        assert cancelled is not None
        assert cancelled.state is State.SUCCEEDED

    async def test_settling_twice_is_settling_once(self, store: StateStore) -> None:
        """My own repeat is answered with what it wrote; another's token is a zombie's."""
        me = await worker(store)
        claim = await claimed(store, me)
        done = end(claim, Outcome.SUCCEEDED, result="1")
        await store.settle([done])
        [again] = await store.settle([done])
        [zombie] = await store.settle([done._replace(worker="somebody")])
        assert (again.state, zombie.state) == (State.SUCCEEDED, None)
        shown = await store.get("default", claim.id)
        assert shown is not None
        assert len(shown.attempts) == 1

    async def test_a_zombie_changes_nothing_of_the_run_that_replaced_it(self, store: StateStore) -> None:
        """Its epoch is over."""
        me, other = await worker(store), await worker(store)
        old = await claimed(store, me)
        await store.settle([end(old, Outcome.INTERRUPTED)], now=at(1))
        [new] = await store.claim(other, [old.id], ["t"], now=at(2))
        [late] = await store.settle([end(old, Outcome.SUCCEEDED, result="1")], now=at(3))
        assert late.state is None
        [good] = await store.settle([end(new, Outcome.SUCCEEDED, result="2")], now=at(4))
        assert good.state is State.SUCCEEDED

    async def test_failure_waits_and_then_is_a_dead_letter(self, store: StateStore) -> None:
        """Delays are added to the store's clock; the last failure stays in the live table."""
        me, moment = await worker(store), 0.0
        claim = await claimed(store, me, max_attempts=2)
        await store.settle([end(claim, Outcome.FAILED, error=ErrorInfo("E", "no"))], now=at(1))
        retrying = await store.get("default", claim.id)
        assert retrying is not None
        assert (retrying.state, retrying.run_at) == (State.RETRYING, at(1.5))
        await store.promote(now=at(2))
        [claim] = await store.claim(me, [claim.id], ["t"], now=at(moment + 2))
        await store.settle([end(claim, Outcome.FAILED, error=ErrorInfo("E", "no"))], now=at(3))
        query = JobQuery(tenant="default", limit=9, states=frozenset({State.FAILED}), error_type="E")
        assert [found.id for found in await store.find(query)] == [claim.id]

    async def test_a_replay_has_a_fresh_budget_and_happens_once(self, store: StateStore) -> None:
        """Epochs and attempts go on; counters, cancel flag and expiry are reset; a second click is a conflict."""
        me = await worker(store)
        claim = await claimed(store, me, max_attempts=1)
        await store.settle([end(claim, Outcome.FAILED, error=ErrorInfo("E", "no"))], now=at(1))
        replayed = await store.replay("default", claim.id, '{"n": 2}', now=at(2))
        assert replayed is not None
        assert (replayed[0].state, replayed[0].run, replayed[0].payload) == (State.QUEUED, 2, '{"n": 2}')
        with pytest.raises(Conflict):
            await store.replay("default", claim.id)
        [again] = await store.claim(me, [claim.id], ["t"], now=at(3))
        assert (again.epoch, again.attempt, again.tries) == (2, 2, 1)
        assert await store.replay("default", new_id()) is None

    async def test_a_wished_cancel_wins_over_every_way_to_go_on(self, store: StateStore) -> None:
        """A run that fails, is interrupted or snoozes after the wish is cancelled."""
        me = await worker(store)
        for outcome in (Outcome.FAILED, Outcome.INTERRUPTED, Outcome.SNOOZED, Outcome.CRASHED):
            claim = await claimed(store, me)
            wished = await store.cancel("default", claim.id, now=at(1))
            assert wished is not None
            assert (wished.state, wished.cancel_requested_at) == (State.RUNNING, at(1))
            [settled] = await store.settle([end(claim, outcome, after=5.0)], now=at(2))
            assert (settled.state, settled.ticket) == (State.CANCELLED, None)

    async def test_beats_tell_what_is_held_until_the_worker_is_dead(self, store: StateStore) -> None:
        """With the age of each run and whether it is to be cancelled."""
        me = await worker(store)
        claim = await claimed(store, me)
        await store.cancel("default", claim.id, now=at(1))
        beat = await store.beat(me, now=at(5))
        assert beat.alive
        assert [(h.job_id, h.epoch, h.cancel_requested, h.age) for h in beat.held] == [(claim.id, 1, True, 5.0)]
        await store.stop(me, now=at(6))
        assert not (await store.beat(me, now=at(7))).alive

    async def test_release_and_stop_give_runs_back_uncharged(self, store: StateStore) -> None:
        """An interruption is shown as one."""
        me = await worker(store)
        claim = await claimed(store, me)
        [ticket] = await store.release(me, [(claim.id, claim.epoch)], now=at(1))
        [again] = await store.claim(me, [ticket.job_id], ["t"], now=at(2))
        assert (again.attempt, again.epoch, again.interruptions) == (1, 2, 1)
        assert [t.job_id for t in await store.stop(me, now=at(3))] == [claim.id]

    async def test_the_silent_are_dead_after_a_lease_but_never_in_grace(self, store: StateStore) -> None:
        """The first sweep after a gap gives everybody a lease to be heard."""
        me, other = await worker(store), await worker(store)
        claim = await claimed(store, me)
        first = await store.sweep(GAP, now=at(1_000))
        assert (first.in_grace, first.rescued) == (True, 0)
        for moment in range(1_005, 1_035, 5):
            await store.beat(other, now=at(moment))
            swept = await store.sweep(GAP, now=at(moment))
        assert (swept.in_grace, list(swept.dead_workers), swept.rescued) == (False, [me], 1)
        shown = await store.get("default", claim.id)
        assert shown is not None
        assert (shown.state, shown.attempt, shown.crashes, shown.attempts[0].outcome) == (
            State.QUEUED,
            0,
            1,
            Outcome.CRASHED,
        )

    async def test_deaths_of_workers_isolate_a_job_but_never_poison_it(self, store: StateStore) -> None:
        """Any of their runs may have done it, or none: from the third on it runs apart, and only a cap ends it."""
        new = job()
        await store.insert([new], now=T0)
        for crash in range(CRASHES_MAX):
            me = await worker(store)
            [claim] = await store.draw(me, [LANE], ["t"], 1, isolated=crash >= CRASHES_BEFORE_ISOLATION, now=T0)
            assert claim.isolated == (crash >= CRASHES_BEFORE_ISOLATION)
            [ticket] = (await store.adopt(now=T0)).tickets
            assert ticket.job_id == new.id
        await store.draw(await worker(store), [LANE], ["t"], 1, isolated=True, now=T0)
        await store.adopt(now=T0)
        shown = await store.get("default", new.id)
        assert shown is not None
        assert (shown.state, shown.reason, shown.crashes) == (State.FAILED, "crashed_too_often", CRASHES_MAX + 1)

    async def test_what_is_past_its_time_expires_and_what_is_overdue_is_lost(self, store: StateStore) -> None:
        """Expired jobs are over; a run past its deadline is given back."""
        me = await worker(store, now=at(200))
        late = job(expires_at=at(5))
        await store.insert([late], now=T0)
        overdue = await claimed(store, me, timeout=10.0)
        for moment in range(200, 240, 5):
            await store.beat(me, now=at(moment))
            await store.sweep(GAP, now=at(moment))
        expired, lost = await store.get("default", late.id), await store.get("default", overdue.id)
        assert expired is not None
        assert lost is not None
        assert expired.state is State.EXPIRED
        assert [attempt.outcome for attempt in lost.attempts] == [Outcome.LOST]

    async def test_a_task_without_a_worker_waits_and_says_so(self, store: StateStore) -> None:
        """And is queued again when a worker brings it."""
        await worker(store, "other")
        new = job()
        await store.insert([new], now=T0)
        assert (await store.sweep(GAP, now=T0)).parked == 1
        shown = await store.get("default", new.id)
        assert shown is not None
        assert (shown.state, shown.reason) == (State.WAITING, "no_worker")
        me = f"w-{new_id()}"
        tickets = await store.register(
            WorkerInfo(id=me, host="h", pid=1, queues=(), tasks=("t",), slots={}, lease=30.0), now=T0
        )
        assert [ticket.job_id for ticket in tickets] == [new.id]

    async def test_pages_show_everything_once_in_both_directions(self, store: StateStore) -> None:
        """Also where creation times are equal, live and finished merged."""
        me, new = await worker(store), [job() for _ in range(50)]
        await store.insert(new, now=T0)
        claims = await store.claim(me, [one.id for one in new[::2]], ["t"], now=T0)
        await store.settle([end(claim, Outcome.SUCCEEDED, result="1") for claim in claims])
        for ascending in (False, True):
            seen: list[str] = []
            after = None
            while page := await store.find(JobQuery(tenant="default", limit=7, ascending=ascending, after=after)):
                seen += [found.id for found in page]
                after = (page[-1].created_at, page[-1].id)
            assert len(seen) == 50
            assert set(seen) == {one.id for one in new}

    async def test_filters(self, store: StateStore) -> None:
        """By state, task, queue and tag."""
        await store.insert([job(tags='["a"]'), job(task="u"), job(queue="q")], now=T0)
        counts = [
            len(await store.find(JobQuery(tenant="default", limit=9, **wanted)))
            for wanted in (
                {"tag": "a"},
                {"task": "u"},
                {"queue": "q"},
                {"states": frozenset({State.QUEUED})},
                {"tag": "z"},
            )
        ]
        assert counts == [1, 1, 1, 3, 0]

    async def test_progress_is_written_for_the_token_that_holds(self, store: StateStore) -> None:
        """And for no other."""
        me = await worker(store)
        claim = await claimed(store, me)
        await store.set_progress([(claim.id, 1, me, '{"fraction":0.5}'), (claim.id, 2, me, '{"fraction":0.9}')])
        shown = await store.get("default", claim.id)
        assert shown is not None
        assert shown.progress == '{"fraction":0.5}'

    async def test_purge_and_retention_leave_no_side_row(self, store: StateStore) -> None:
        """An object that another job's lines share stays; keys are free again."""
        me = await worker(store)
        claims = [await claimed(store, me, idempotency=Idempotency("jobs", f"k{n}", "f")) for n in range(2)]
        await store.add_segments(
            [Segment(job_id=c.id, epoch=1, seq=1, object="shared", offset=0, length=1) for c in claims]
        )
        await store.put_artifact(
            ArtifactInfo(job_id=claims[0].id, name="a", object="own", content_type="x", size=1, sha256="0")
        )
        await store.settle([end(claims[0], Outcome.SUCCEEDED, result="1")], now=at(1))
        await store.settle([end(claims[1], Outcome.FAILED, final=True)], now=at(1))
        passes = [
            await store.retain(3_600, limit=n, now=moment)
            for n, moment in ((9, at(60)), (1, at(3_700)), (9, at(3_700)))
        ]
        assert [(list(one.objects), one.more) for one in passes] == [([], False), (["own"], True), ([], False)]
        assert await store.get("default", claims[0].id) is None
        assert await store.purge("default", [claims[0].id, claims[1].id]) == [claims[1].id]
        assert await store.segments(claims[1].id) == []
        [again] = await store.insert([job(idempotency=Idempotency("jobs", "k1", "g"))], now=at(2))
        assert again.created

    async def test_the_catalogue_and_the_queues(self, store: StateStore) -> None:
        """Tasks bring their queues; queues show what stands in them; a pause says why."""
        info = TaskInfo(name="t", queue="q", runs_in=RunsIn.ASYNC, schema="{}", timeout=60, max_attempts=3)
        await store.publish_tasks([info], now=T0)
        await store.publish_tasks([replace(info, max_attempts=5)], now=at(1))
        await worker(store, "t")
        [known] = await store.tasks()
        assert (known.max_attempts, known.live_workers, known.updated_at) == (5, 1, at(1))
        await store.insert([job(queue="q"), job(queue="q")])
        assert await store.pause("q", "lunch")
        assert not await store.pause("nope", None)
        [queue] = [found for found in await store.queues() if found.name == "q"]
        assert (queue.paused, queue.pause_reason, queue.depth, queue.depth_capped) == (True, "lunch", 2, False)
        assert queue.oldest is not None
        assert await store.resume("q")
        assert (await store.queue_names())["q"] is False


__all__ = ["GAP", "LANE", "LEASE", "T0", "StoreConformance", "at", "claimed", "end", "job", "worker"]
