"""What must hold of every job, whatever was done to it: laws, not a second store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from taskflow.core.job import Claim, Job, Outcome, State
from taskflow.core.lifecycle import TRANSITIONS

CHARGED: Final = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMEOUT, Outcome.CANCELLED})
INTERRUPTED: Final = frozenset({Outcome.INTERRUPTED, Outcome.LOST})
KEY_LASTS: Final = timedelta(days=1)


@dataclass(slots=True)
class WorkerFacts:
    """What a worker was told last, and whether it still speaks."""

    tasks: frozenset[str]
    heard: datetime
    state: str = "alive"
    silent: bool = False


@dataclass(slots=True)
class History:
    """Everything that was seen, and what it allows to be seen next."""

    jobs: dict[str, Job] = field(default_factory=dict)
    workers: dict[str, WorkerFacts] = field(default_factory=dict)
    keys: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    run_began_after: dict[str, int] = field(default_factory=dict)

    def may_run(self, job_id: str, worker: str, now: datetime, *, isolated: bool = False) -> bool:
        """Whether a claim or a draw by this worker has to start this job now."""
        job, facts = self.jobs.get(job_id), self.workers[worker]
        return (
            job is not None
            and job.state is State.QUEUED
            and job.task in facts.tasks
            and facts.state == "alive"
            and job.queue not in self.paused
            and (job.expires_at is None or job.expires_at > now)
            and (job.crashes >= 2) == isolated
        )

    def started(self, claims: Collection[Claim], worker: str) -> None:
        """Check that each claim is a new token of a job that could run."""
        assert len({claim.id for claim in claims}) == len(claims)
        for claim in claims:
            before = self.jobs[claim.id]
            assert before.state is State.QUEUED
            assert before.cancel_requested_at is None, "started after an accepted cancel"
            assert (claim.epoch, claim.worker) == (before.epoch + 1, worker)

    def holds(self, claim: Claim) -> bool:
        """Whether a token is its job's present one."""
        job = self.jobs.get(claim.id)
        token = (State.RUNNING, claim.epoch, claim.worker)
        return job is not None and (job.state, job.epoch, job.worker) == token

    def replayed(self, job_id: str) -> None:
        """From here on crashes and interruptions count anew."""
        self.run_began_after[job_id] = self.jobs[job_id].epoch

    def look(self, seen: Mapping[str, Job | None], touched: Collection[str] | None, gone: Collection[str]) -> None:
        """Compare what is there with what was.

        Args:
            seen: every job that was ever accepted, as it is shown now.
            touched: jobs that were allowed to change; `None` allows all.
            gone: jobs that were deleted.
        """
        for job_id, job in seen.items():
            before = self.jobs.get(job_id)
            if job is None:
                assert before is None or job_id in gone, f"{job_id} is gone"
                self.jobs.pop(job_id, None)
                continue
            assert job_id not in gone
            self._lawful(job)
            if before is not None:
                assert touched is None or job_id in touched or job == before, f"{before} became {job}"
                _followed(before, job)
            self.jobs[job_id] = job

    def _lawful(self, job: Job) -> None:
        """One document, for itself."""
        closed = [attempt for attempt in job.attempts if attempt.outcome is not None]
        running = job.state is State.RUNNING
        assert [attempt.epoch for attempt in job.attempts] == list(range(1, job.epoch + 1)), "not one record an epoch"
        assert len(job.attempts) - len(closed) == running, "an open record is a running job's, and the other way round"
        assert job.attempt == sum(attempt.outcome in CHARGED for attempt in closed) + running
        outcomes = Counter(a.outcome for a in closed if a.epoch > self.run_began_after.get(job.id, 0))
        assert job.crashes == outcomes[Outcome.CRASHED]
        assert job.interruptions == sum(outcomes[each] for each in INTERRUPTED)
        assert (job.finished_at is not None) == job.state.terminal
        if job.cancel_requested_at is not None:
            assert running or job.state.terminal, "a wished cancel was forgotten"
        if running:
            assert job.worker == job.attempts[-1].worker
        if job.state in {State.SCHEDULED, State.RETRYING}:
            assert job.run_at is not None, "nothing will ever promote it"
        if job.state is State.WAITING:
            assert job.reason, "waiting, and nobody knows for what"


def _followed(before: Job, job: Job) -> None:
    """Two looks at one job, with one step between them."""
    if before.state.terminal and before.state is not State.FAILED:
        assert job == before, "a terminal job changed"
    if job.state is not before.state:
        there = TRANSITIONS[before.state]
        # A sweep may rescue a row and park it, and may bring back a parked one.
        assert job.state in there.union(*(TRANSITIONS[state] for state in there)), f"{before.state} > {job.state}"
    assert job.epoch - before.epoch in ((0, 1) if before.state is State.QUEUED else (0,)), "an epoch from nowhere"
    old = [attempt for attempt in before.attempts if attempt.outcome is not None]
    assert list(job.attempts[: len(old)]) == old, "a closing record changed"
    assert job.run - before.run == (before.state is State.FAILED and job.state is State.QUEUED)
    same = ("id", "task", "queue", "priority", "max_attempts", "tags", "metadata", "idempotency_key", "created_at")
    assert replace(before, **{name: getattr(job, name) for name in same}) == before, "what was submitted changed"
