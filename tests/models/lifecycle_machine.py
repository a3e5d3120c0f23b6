"""Everything that may be done to a store, in any order, by the living, the dead and the late."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from taskflow.core.errors import Conflict
from taskflow.core.job import Claim, ErrorInfo, Idempotency, Lane, LaneKey, NewJob, Outcome, RunsIn, State
from taskflow.core.lifecycle import Ending, decide
from taskflow.core.retry import RetryPolicy
from taskflow.ports.store import Inserted, Swept, WorkerInfo
from taskflow.testing.store_facts import GAP, LEASE
from tests.models.history import KEY_LASTS, WorkerFacts
from tests.models.store_machine import TICK, StoreMachine, pick

TASKS: Final = ("t", "u")
QUEUES: Final = ("one", "two")
LANES: Final = [LaneKey(queue, lane) for lane in Lane for queue in QUEUES]
ANY: Final = st.integers(0, 99)
"""Which one, of however many there are."""


def ending(outcome: Outcome, said: bool, after: float | None, final: bool) -> Ending:
    """As runs end: only a success has a result."""
    if outcome is Outcome.SUCCEEDED:
        return Ending(outcome, '{"n":1}', ErrorInfo("E", "no") if said else None)
    return Ending(outcome, None, ErrorInfo("E", "no"), after, final)


ENDINGS: Final = st.builds(
    ending,
    outcome=st.sampled_from([each for each in Outcome if each is not Outcome.LOST]),
    said=st.booleans(),
    after=st.sampled_from([None, 5.0]),
    final=st.booleans(),
)


class LifecycleMachine(StoreMachine):
    """Subclass it as its base says."""

    @initialize()
    def begin(self) -> None:
        """Two queues, somebody who can do most, something to do, a dead letter and a suspect."""
        self.call("ensure_queues", list(QUEUES), timed=False)
        self._register(frozenset({"t"}))
        for number in range(6):
            self._submit(task=TASKS[number % 3 == 2], queue=QUEUES[number % 2], priority=number + 2, max_attempts=2)
        self.laws()
        for outcome in (Outcome.FAILED, Outcome.CRASHED, Outcome.CRASHED):
            self._run_first(Ending(outcome=outcome, final=True))

    def _run_first(self, ending: Ending) -> None:
        self.draw(0, 1, False, LANES)
        self.laws()
        self._settle(self.claims[-1], ending)
        self.laws()

    @rule(
        task=st.sampled_from(TASKS),
        queue=st.sampled_from(QUEUES),
        priority=st.integers(0, 9),
        delay=st.sampled_from([None, None, 5.0, 50.0]),
        expires=st.sampled_from([None, None, 2.0, 45.0]),
        max_attempts=st.integers(1, 3),
        key=st.sampled_from([None, "k1", "k2"]),
    )
    def submit(self, key: str | None, expires: float | None, **values: Any) -> None:
        """A new job, or the first one of its key."""
        at = self.now + TICK
        owner = self._owner(key, at)
        before = self.history.jobs.get(owner or "")
        answer = self._submit(
            expires_at=None if expires is None else at + timedelta(seconds=expires),
            idempotency=None if key is None else Idempotency("jobs", key, "f"),
            **values,
        )
        assert answer.created == (owner is None)
        if before is not None:
            assert (answer.job_id, answer.state) == (owner, before.state)
            self.happened["duplicate"] += 1
        elif key is not None:
            self.history.keys[key] = (answer.job_id, at + KEY_LASTS)

    def _submit(self, **values: Any) -> Inserted:
        new = NewJob(id=self._name(), runs_in=RunsIn.ASYNC, payload="{}", timeout=20.0, **values)
        [answer] = self.call("insert", [new])
        assert isinstance(answer, Inserted)
        if answer.created:
            assert answer.job_id == new.id
            self.accepted.append(new.id)
        return answer

    def _owner(self, key: str | None, at: datetime) -> str | None:
        owner, until = self.history.keys.get(key or "", ("", at))
        return owner if owner in self.history.jobs and until > at else None

    @rule(tasks=st.sampled_from([("u",), TASKS]))
    def register(self, tasks: tuple[str, ...]) -> None:
        """One more worker; what waited for its tasks is queued."""
        waited = self._in(State.WAITING)
        self._register(frozenset(tasks))
        self.touched = [job.id for job in waited if job.task in tasks]

    def _register(self, tasks: frozenset[str]) -> str:
        info = WorkerInfo(id=self._name(), host="h", pid=1, queues=(), tasks=sorted(tasks), slots={}, lease=30.0)
        tickets = self.call("register", info)
        assert {ticket.job_id for ticket in tickets} == {job.id for job in self._in(State.WAITING) if job.task in tasks}
        self.happened["unparked"] += len(tickets)
        self.history.workers[info.id] = WorkerFacts(tasks, self.now)
        return info.id

    @rule(who=ANY, which=st.lists(ANY, min_size=1, max_size=5))
    def claim(self, who: int, which: list[int]) -> None:
        """By tickets that may be old, doubled or of somebody else's job."""
        worker, wanted = self._worker(who), [self._job(each, State.QUEUED) for each in which]
        claims = self.call("claim", worker, wanted, sorted(self.history.workers[worker].tasks))
        due = {job_id for job_id in wanted if self.history.may_run(job_id, worker, self.now)}
        assert {claim.id for claim in claims} == due
        self._started(claims, worker)

    @rule(
        who=ANY,
        limit=st.integers(1, 4),
        isolated=st.booleans(),
        lanes=st.permutations(LANES),
    )
    def draw(self, who: int, limit: int, isolated: bool, lanes: list[LaneKey]) -> None:
        """Without any ticket: they may all be lost."""
        worker = self._worker(who)
        tasks = sorted(self.history.workers[worker].tasks)
        claims = self.call("draw", worker, lanes, tasks, limit, isolated=isolated)
        due = {each for each in self.history.jobs if self.history.may_run(each, worker, self.now, isolated=isolated)}
        assert {claim.id for claim in claims} <= due
        assert len(claims) == min(limit, len(due)), "a queued row was not found"
        self._started(claims, worker)

    @rule(who=ANY, ages=st.lists(st.sampled_from([0, 1, 30]), min_size=1, max_size=6))
    def draw_behind(self, who: int, ages: list[int]) -> None:
        """As a busy worker does, behind the fronts of some lanes."""
        worker = self._worker(who)
        before = {lane: self.now - timedelta(seconds=age) for lane, age in zip(LANES, ages, strict=False)}
        tasks = sorted(self.history.workers[worker].tasks)
        claims = self.call("draw", worker, LANES, tasks, 9, queued_before=before)
        assert all(self.history.may_run(claim.id, worker, self.now) for claim in claims)
        assert {LaneKey(claim.queue, Lane.of(claim.priority)) for claim in claims} <= set(before)
        self._started(claims, worker)

    def _started(self, claims: list[Claim], worker: str) -> None:
        self.history.started(claims, worker)
        self.touched = [claim.id for claim in claims]
        self.claims += claims
        self.happened["isolated"] += sum(claim.isolated for claim in claims)

    @rule(
        endings=st.lists(ENDINGS, min_size=2, max_size=5),
        isolated=st.sampled_from([False, False, True]),
        wished=st.booleans(),
    )
    def work(self, endings: list[Ending], isolated: bool, wished: bool) -> None:
        """Submit, draw, run and settle, as on any day."""
        for number in range(2):
            self._submit(task="t", queue="one", priority=5, max_attempts=number + 1)
        self.laws()
        old = len(self.claims)
        self.draw(0, len(endings), isolated, LANES)
        self.laws()
        for claim, ending in zip(self.claims[old:], endings, strict=False):
            if wished:
                self._cancel(claim.id)
                self.laws()
            self._settle(claim, ending)
            self.laws()

    @precondition(lambda self: self.claims)
    @rule(which=ANY, ending=ENDINGS)
    def settle(self, which: int, ending: Ending) -> None:
        """By whoever holds the token, or held it once."""
        self._settle(self._claim(which), ending)

    def _settle(self, claim: Claim, ending: Ending) -> None:
        said = (claim.id, claim.epoch, ending.outcome)
        # A run ends once: who says it again says the same.
        settlement = self.said.setdefault(said, decide(claim, ending, RetryPolicy(), lambda: 0.5))
        mine, before = self.history.holds(claim), self.history.jobs.get(claim.id)
        [settled] = self.call("settle", [settlement])
        if mine:
            assert before is not None
            wished = before.cancel_requested_at is not None and not settlement.state.terminal
            assert settled.state is (State.CANCELLED if wished else settlement.state)
            assert (settled.ticket is not None) == (settled.state is State.QUEUED)
            self.touched = [claim.id]
            self.happened[ending.outcome] += 1
            self.happened["wished"] += wished
        elif settled.state is None:
            self.happened["zombie"] += 1
        else:
            # My own first try made it, if its closing record is mine and says the same.
            assert before is not None
            record = before.attempts[claim.epoch - 1]
            assert (record.worker, record.outcome) == (claim.worker, ending.outcome)
        self.written.append((settlement, settled.state))

    @precondition(lambda self: self.written)
    @rule(which=ANY)
    def settle_again(self, which: int) -> None:
        """The reply was lost: the repeat is answered with what the first try wrote, and changes nothing."""
        settlement, state = pick(self.written, which)
        there = settlement.id in self.history.jobs
        [settled] = self.call("settle", [settlement])
        assert (settled.state, settled.ticket) == (state if there else None, None)
        self.happened["repeat"] += settled.state is not None

    @precondition(lambda self: self.claims)
    @rule(which=ANY)
    def settle_as_another(self, which: int) -> None:
        """A token is worth nothing to who has another name."""
        claim = self._claim(which)
        forged = decide(claim._replace(worker="somebody"), Ending(outcome=Outcome.SUCCEEDED), RetryPolicy())
        [settled] = self.call("settle", [forged])
        assert settled.state is None

    @precondition(lambda self: self.claims)
    @rule(which=ANY)
    def progress(self, which: int) -> None:
        """Heard of the holder of the token only."""
        claim = self._claim(which)
        mine = self.history.holds(claim)
        self.call("set_progress", [(claim.id, claim.epoch, claim.worker, '{"fraction":0.5}')], timed=False)
        self.touched = [claim.id] if mine else []

    @rule(who=ANY)
    def beat(self, who: int) -> None:
        """Hears of exactly what it runs, unless it was declared dead."""
        worker = self._worker(who)
        facts = self.history.workers[worker]
        answer = self.call("beat", worker)
        assert answer.alive == (facts.state == "alive")
        if answer.alive:
            facts.heard, facts.silent = self.now, False
            held = {(row.job_id, row.epoch, row.cancel_requested) for row in answer.held}
            assert held == {
                (job.id, job.epoch, job.cancel_requested_at is not None)
                for job in self._in(State.RUNNING)
                if job.worker == worker
            }

    @rule(who=ANY)
    def crash(self, who: int) -> None:
        """Without a word: nothing happens until its lease is over."""
        worker = self._worker(who)
        self.history.workers[worker].silent = True

    @rule(who=ANY)
    def stop(self, who: int) -> None:
        """A clean end gives back what was left."""
        worker = self._worker(who)
        self.touched = self._run_by(worker)
        self.call("stop", worker)
        facts = self.history.workers[worker]
        facts.state = "stopped" if facts.state == "alive" else facts.state

    @precondition(lambda self: self.claims)
    @rule(which=ANY, forged=st.booleans())
    def release(self, which: int, forged: bool) -> None:
        """Of its own runs only, by their epoch."""
        claim = self._claim(which)
        worker = "somebody" if forged else claim.worker
        mine = self.history.holds(claim) and claim.worker == worker
        self.call("release", worker, [(claim.id, claim.epoch)])
        self.touched = [claim.id] if mine else []

    @rule()
    def let_leases_end(self) -> None:
        """More than a lease, under sweeps without a gap: who is silent is dead, who beats is not."""
        self.touched = None
        for _ in range(4):
            self.now += timedelta(seconds=LEASE / 2 - 1)
            for worker, facts in self.history.workers.items():
                if facts.state == "alive" and not facts.silent:
                    assert self.call("beat", worker).alive
                    facts.heard = self.now
            self._sweep()
        self._sweep()
        assert not any(facts.silent and facts.state == "alive" for facts in self.history.workers.values())
        alive = {worker for worker, facts in self.history.workers.items() if facts.state == "alive"}
        assert {job.worker for job in self._look().values() if job and job.state is State.RUNNING} <= alive

    @rule()
    def sweep(self) -> None:
        """Twice: what the first one rescued may have to be parked."""
        self.touched = None
        self._sweep()
        self._sweep()

    def _sweep(self) -> None:
        swept = self.call("sweep", GAP)
        assert isinstance(swept, Swept)
        for worker in swept.dead_workers:
            facts = self.history.workers[worker]
            assert facts.state == "alive"
            assert not swept.in_grace
            assert self.now - facts.heard > timedelta(seconds=LEASE)
            facts.state = "dead"
        for name in ("rescued", "expired", "parked", "unparked", "in_grace"):
            self.happened[name] += getattr(swept, name)

    @rule(which=ANY)
    def cancel(self, which: int) -> None:
        """At once unless it runs."""
        self._cancel(self._job(which, State.RUNNING))

    def _cancel(self, job_id: str) -> None:
        before = self.history.jobs.get(job_id)
        after = self.call("cancel", "default", job_id)
        if before is None or before.state.terminal:
            assert after == before
        else:
            assert after.cancel_requested_at is not None
            assert after.state is (State.RUNNING if before.state is State.RUNNING else State.CANCELLED)
        self.touched = [job_id]

    @rule(which=ANY)
    def replay(self, which: int) -> None:
        """The one way back."""
        job_id = self._job(which, State.FAILED)
        before = self.history.jobs.get(job_id)
        answer = self.call("replay", "default", job_id)
        if before is None:
            assert answer is None
        elif before.state is State.FAILED:
            assert answer[0].state is State.QUEUED
            self.history.replayed(job_id)
            self.happened["replay"] += 1
            self.touched = [job_id]
        else:
            assert answer is Conflict

    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def set_paused(self, queue: str, paused: bool) -> None:
        """Nothing of it starts any more, or it does again."""
        assert self.call("pause", queue, "lunch", timed=False) if paused else self.call("resume", queue, timed=False)
        (self.history.paused.add if paused else self.history.paused.discard)(queue)

    @rule()
    def promote(self) -> None:
        """What is due is queued, all of it."""
        promoted = self.call("promote")
        waits = [job for job in self.history.jobs.values() if job.state in {State.SCHEDULED, State.RETRYING}]
        due = {job.id for job in waits if job.run_at is not None and job.run_at <= self.now}
        assert {ticket.job_id for ticket in promoted.tickets} == due
        assert (promoted.next_due is None) == (len(due) == len(waits))
        self.touched = due
        self.happened["promoted"] += len(due)

    @rule(seconds=st.sampled_from([1, 6, 6, 60, 86_401]))
    def wait(self, seconds: int) -> None:
        """Nothing happens, for a while."""
        self.now += timedelta(seconds=seconds)

    @rule(keep=st.sampled_from([0, 30, 3_600]))
    def retain(self, keep: int) -> None:
        """What is over and old is deleted, and nothing else."""
        while self.call("retain", keep).more:
            pass
        until = self.now - timedelta(seconds=keep)
        over = [job for job in self.history.jobs.values() if job.state.terminal and job.state is not State.FAILED]
        self.gone = {job.id for job in over if job.finished_at is not None and job.finished_at < until}
        self.happened["retained"] += len(self.gone)

    @rule(which=ANY)
    def purge(self, which: int) -> None:
        """Dead letters only."""
        job_id = self._job(which, State.FAILED)
        failed = [job_id] if job_id in {job.id for job in self._in(State.FAILED)} else []
        assert self.call("purge", "default", [job_id], timed=False) == failed
        self.gone = failed
        self.happened["purged"] += len(failed)

    def teardown(self) -> None:
        """With the troubles over, everything that was accepted comes to its end, without a single ticket."""
        for queue in QUEUES:
            self.set_paused(queue, paused=False)
        worker = self._register(frozenset(TASKS))
        for facts in self.history.workers.values():
            facts.silent = facts is not self.history.workers[worker]
        for _ in range(9):
            self.let_leases_end()
            self.laws()
            self.promote()
            self.laws()
            for isolated in (False, True):
                claims = self.call("draw", worker, LANES, list(TASKS), 500, isolated=isolated)
                self.call(
                    "settle", [decide(claim, Ending(outcome=Outcome.SUCCEEDED), RetryPolicy()) for claim in claims]
                )
            self.touched = None
            self.laws()
            if all(job.state.terminal for job in self.history.jobs.values()):
                self._count_records()
                return
        stuck = [job for job in self.history.jobs.values() if not job.state.terminal]
        raise AssertionError(f"stuck: {stuck}")
