"""The store's suite, on tokens: who may claim, settle and replay, and what a second try is answered."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from taskflow.core.errors import Conflict, DataRejected
from taskflow.core.job import ErrorInfo, Idempotency, Outcome, State
from taskflow.core.lifecycle import Settlement
from taskflow.ports.store import ArtifactInfo, JobQuery, Segment, StateStore
from taskflow.testing.store_facts import T0, at, claimed, end, job, shown, worker


class TokenConformance:
    """Claims, settlements and repeats."""

    async def test_a_doubled_ticket_starts_a_job_once(self, store: StateStore) -> None:
        """Also where both copies are claimed in one call."""
        me, new = await worker(store), job()
        await store.insert([new], now=T0)
        assert [claim.id for claim in await store.claim(me, [new.id, new.id], ["t"], now=T0)] == [new.id]

    async def test_a_cancel_and_a_claim_at_once_agree(self, store: StateStore) -> None:
        """Either the job never starts, or it runs and is told."""
        me, jobs = await worker(store), [job() for _ in range(20)]
        await store.insert(jobs, now=T0)
        for new in jobs:
            claims, cancelled = await asyncio.gather(
                store.claim(me, [new.id], ["t"], now=T0), store.cancel("default", new.id, now=at(1))
            )
            assert cancelled is not None
            assert cancelled.cancel_requested_at == at(1)
            assert (await shown(store, new.id)).state is (State.RUNNING if claims else State.CANCELLED)

    async def test_of_two_replays_at_once_one_wins(self, store: StateStore) -> None:
        """The other is a conflict, and there is one ticket."""
        claim = await claimed(store, await worker(store))
        await store.settle([end(claim, Outcome.FAILED, final=True)], now=at(1))
        answers = await asyncio.gather(*(store.replay("default", claim.id) for _ in range(2)), return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in answers) == [Conflict.__name__, tuple.__name__]
        assert (await shown(store, claim.id)).run == 2

    async def test_settlements_are_answered_in_the_order_asked(self, store: StateStore) -> None:
        """Whatever order the database locks, writes and returns rows in."""
        me = await worker(store)
        claims = [await claimed(store, me) for _ in range(20)]
        asked = claims[::-2] + claims[::2]
        outcomes = [Outcome.SUCCEEDED if number % 3 else Outcome.FAILED for number in range(len(asked))]
        settled = await store.settle(
            [end(claim, outcome, final=True) for claim, outcome in zip(asked, outcomes, strict=True)], now=at(1)
        )
        assert [one.state for one in settled] == [State(outcome.value) for outcome in outcomes]
        assert [(await shown(store, claim.id)).state for claim in asked] == [one.state for one in settled]

    async def test_each_job_of_a_large_batch_keeps_what_is_its_own(self, store: StateStore) -> None:
        """However many statements a store makes of it."""
        me = await worker(store)
        jobs = [job(payload=f'{{"n": {number}}}', tags=f'["t{number}"]') for number in range(90)]
        await store.insert(jobs, now=T0)
        claims = await store.claim(me, [new.id for new in jobs], ["t"], now=T0)
        outcomes = [(Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED)[number % 3] for number in range(90)]
        endings: list[Settlement] = []
        for number, (claim, outcome) in enumerate(zip(claims, outcomes, strict=True)):
            result = str(number) if outcome is Outcome.SUCCEEDED else None
            error = None if result else ErrorInfo("E", f"no {number}", "")
            word = f'{{"at": {number}}}' if number % 2 else None
            endings.append(end(claim, outcome, result=result, error=error, final=True)._replace(progress=word))
        await store.settle(endings, now=at(1))
        for number, (new, ending) in enumerate(zip(jobs, endings, strict=True)):
            row = await shown(store, new.id)
            assert (row.payload, row.tags, row.result, row.error) == (
                new.payload,
                new.tags,
                ending.result,
                ending.error,
            )
            assert (row.state, row.finished_at, row.progress) == (ending.state, at(1), ending.progress)
            [attempt] = row.attempts
            assert (attempt.outcome, attempt.error, attempt.worker) == (outcomes[number], ending.error, me)

    async def test_a_repeat_is_answered_with_what_the_cancel_made_of_it(self, store: StateStore) -> None:
        """Not with what was asked."""
        claim = await claimed(store, await worker(store))
        await store.cancel("default", claim.id, now=at(1))
        failed = end(claim, Outcome.FAILED, error=ErrorInfo("E", "no"))
        for second in (2, 3):
            [settled] = await store.settle([failed], now=at(second))
            assert (settled.state, settled.ticket) == (State.CANCELLED, None)

    async def test_a_later_cancel_does_not_change_what_a_repeat_is_answered(self, store: StateStore) -> None:
        """The first try did write `retrying`."""
        claim = await claimed(store, await worker(store))
        failed = end(claim, Outcome.FAILED, error=ErrorInfo("E", "no"))
        await store.settle([failed], now=at(1))
        await store.cancel("default", claim.id, now=at(2))
        assert [settled.state for settled in await store.settle([failed], now=at(3))] == [State.RETRYING]

    async def test_a_zombie_in_my_batch_takes_nothing_of_mine(self, store: StateStore) -> None:
        """The worker is part of the token; the same ending twice in a batch is one."""
        claim = await claimed(store, await worker(store))
        mine = end(claim, Outcome.SUCCEEDED, result="1")
        zombie = mine._replace(worker="somebody", result="2")
        settled = await store.settle([zombie, mine, mine], now=at(1))
        assert [one.state for one in settled] == [None, State.SUCCEEDED, State.SUCCEEDED]
        after = await shown(store, claim.id)
        assert (after.result, len(after.attempts)) == ("1", 1)

    @pytest.mark.parametrize("where", ["result", "error"])
    async def test_one_unstorable_ending_leaves_nothing_of_its_batch(self, store: StateStore, where: str) -> None:
        """All or none, so that the caller may halve."""
        me = await worker(store)
        good, bad = await claimed(store, me), await claimed(store, me)
        endings = {
            "result": end(bad, Outcome.SUCCEEDED, result='"\ud800"'),
            "error": end(bad, Outcome.FAILED, error=ErrorInfo("E", "\ud800")),
        }
        with pytest.raises(DataRejected):
            await store.settle([end(good, Outcome.SUCCEEDED, result="1"), endings[where]], now=at(1))
        for claim in (good, bad):
            after = await shown(store, claim.id)
            assert (after.state, len(after.attempts), after.attempts[0].outcome) == (State.RUNNING, 1, None)

    async def test_a_second_submit_is_told_how_the_first_one_stands(self, store: StateStore) -> None:
        """Its state and times, live, finished and within one batch."""
        key = Idempotency("jobs", "k", "f")
        first = job(delay=5, idempotency=key)
        told = await store.insert([first, job(idempotency=replace(key, fingerprint="g"))], now=T0)
        told += await store.insert([job(idempotency=key)], now=at(1))
        for answer in told:
            assert (answer.job_id, answer.state, answer.created_at, answer.run_at) == (
                first.id, State.SCHEDULED, T0, at(5),
            )  # fmt: skip
            assert answer.ticket is None
        assert [(answer.created, answer.fingerprint) for answer in told[1:]] == [(False, "f")] * 2
        await store.cancel("default", first.id, now=at(2))
        [over] = await store.insert([job(idempotency=key)], now=at(3))
        assert (over.job_id, over.created, over.state) == (first.id, False, State.CANCELLED)

    async def test_a_snooze_is_not_counted(self, store: StateStore) -> None:
        """The job is scheduled again, the attempt given back, the snooze remembered."""
        me = await worker(store)
        claim = await claimed(store, me)
        [settled] = await store.settle([end(claim, Outcome.SNOOZED, after=60.0)], now=at(1))
        after = await shown(store, claim.id)
        assert (settled.state, after.run_at, after.attempt) == (State.SCHEDULED, at(61), 0)
        await store.promote(now=at(61))
        [again] = await store.claim(me, [claim.id], ["t"], now=at(62))
        assert (again.snoozes, again.attempt, again.epoch) == (1, 1, 2)

    async def test_the_last_word_of_a_run_is_kept(self, store: StateStore) -> None:
        """Its progress, however it ended; a run that said nothing more keeps what was written."""
        me = await worker(store)
        endings = (
            ({"outcome": Outcome.SUCCEEDED, "result": "1"}, State.SUCCEEDED),
            ({"outcome": Outcome.FAILED, "final": True}, State.FAILED),
        )
        for values, state in endings:
            for last in ('{"fraction":0.9}', None):
                claim = await claimed(store, me)
                await store.set_progress([(claim.id, claim.epoch, me, '{"fraction":0.5}')])
                await store.settle([end(claim, **values)._replace(progress=last)], now=at(1))
                after = await shown(store, claim.id)
                assert (after.state, after.progress) == (state, last or '{"fraction":0.5}')

    async def test_a_list_is_cut_by_states_and_times(self, store: StateStore) -> None:
        """Live and finished in one list, the earlier edge included, the later one not."""
        me = await worker(store)
        wanted = {}
        for second, state in enumerate((State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED)):
            claim = await claimed(store, me, now=at(second))
            wanted[state] = claim.id
            outcome = {State.QUEUED: Outcome.INTERRUPTED, State.SUCCEEDED: Outcome.SUCCEEDED}.get(state)
            ending = end(claim, outcome or Outcome.FAILED, result="1" if outcome else None, final=True)
            if state is State.CANCELLED:
                ending = end(claim, Outcome.CANCELLED)
            await store.settle([ending], now=at(9))

        async def ids(**values: Any) -> list[str]:
            query = JobQuery(tenant="default", limit=9, ascending=True)
            return [found.id for found in await store.find(replace(query, **values))]

        for states in ({State.FAILED}, {State.CANCELLED}, {State.QUEUED, State.SUCCEEDED}, set(wanted)):
            assert await ids(states=frozenset(states)) == [wanted[state] for state in wanted if state in states]
        assert await ids(states=frozenset({State.EXPIRED})) == []
        assert await ids(created_after=at(1), created_before=at(3)) == [wanted[State.SUCCEEDED], wanted[State.FAILED]]

    async def test_files_are_found_in_order_and_once(self, store: StateStore) -> None:
        """A repeated segment is ignored, a file of the same name replaced."""
        segments = [
            Segment(job_id="j", epoch=epoch, seq=seq, object=f"o{epoch}{seq}", offset=3, length=4)
            for epoch, seq in ((2, 1), (1, 2), (1, 1))
        ]
        await store.add_segments(segments, now=T0)
        await store.add_segments([replace(segments[0], object="again")], now=at(1))
        assert [found.object for found in await store.segments("j")] == ["o11", "o12", "o21"]
        assert await store.segments("j", 2) == [segments[0]]
        artifact = ArtifactInfo(job_id="j", name="a", object="x", content_type="t/p", size=1, sha256="0")
        for changed in (artifact, replace(artifact, object="y", size=2)):
            await store.put_artifact(changed, now=at(1))
        assert await store.artifacts("j") == [replace(artifact, object="y", size=2, created_at=at(1))]
