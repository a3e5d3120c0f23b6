"""Handlers that only pretend to run, and the oracle that watches them start and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from taskflow.core.job import Claim, ErrorInfo, Outcome, RunsIn
from taskflow.core.lifecycle import Ending
from taskflow.flow.run import StopReason
from taskflow.flow.run.stop import stopped
from taskflow.tasks.registry import Registry
from tests.models.sim_ports import Chaos, Life

SHORT_RUN: Final = 2.0
LONG_RUN: Final = 20.0
"""Longer than two leases."""


@dataclass(eq=False, slots=True)
class SimRun:
    """A run that is there until its timer says otherwise, or somebody stops it."""

    claim: Claim
    life: Life
    stopped: bool = False
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Oracle:
    """What clients were promised, and what handlers did. `alive` is what the store says of a worker."""

    alive: Callable[[str], bool]
    accepted: dict[str, None] = field(default_factory=dict)
    perhaps: dict[str, None] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    owners: dict[str, str] = field(default_factory=dict)
    started: dict[tuple[str, int], str] = field(default_factory=dict)
    returned: dict[tuple[str, int], SimRun] = field(default_factory=dict)
    running: dict[str, list[SimRun]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def starts(self, run: SimRun) -> None:
        """A handler is called."""
        claim = run.claim
        self._never(claim.id in self.cancelled, f"{claim.id} started after its cancel was answered")
        self._never((claim.id, claim.epoch) in self.started, f"{claim.id} epoch {claim.epoch} started twice")
        others = [other for other in self.running.get(claim.id, ()) if not (other.stopped or other.life.dead)]
        self._never(bool(others), f"{claim.id} runs twice: {[other.claim.epoch for other in others]}, {claim.epoch}")
        before = self.returned.get((claim.id, claim.epoch - 1))
        again = before is not None and not before.life.dead and self.alive(before.claim.worker)
        self._never(again, f"{claim.id} runs again, though who ran it to its end still lives")
        self.started[claim.id, claim.epoch] = claim.worker
        self.running.setdefault(claim.id, []).append(run)

    def ends(self, run: SimRun, outcome: Outcome) -> None:
        """And is over."""
        self.running[run.claim.id].remove(run)
        if outcome is Outcome.SUCCEEDED:
            self.returned[run.claim.id, run.claim.epoch] = run

    def _never(self, what: bool, told: str) -> None:
        if what:
            self.wrong.append(told)


class SimRunners:
    """In place of the real ones: the same surface, on virtual time."""

    silent = 0.0

    def __init__(
        self,
        registry: Registry,
        slots: Mapping[RunsIn, int],
        done: Callable[[Claim, Ending], None],
        *,
        life: Life,
        chaos: Chaos,
        oracle: Oracle,
        die: Callable[[], None],
    ) -> None:
        self._registry, self._slots, self._done = registry, slots, done
        self._life, self._chaos, self._oracle, self._die = life, chaos, oracle, die
        self._runs: dict[tuple[str, int], SimRun] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was opened."""

    def free(self, kind: RunsIn) -> int:
        """Slots of a kind that nobody uses."""
        used = sum(not run.claim.isolated and self._kind(run) is kind for run in self._runs.values())
        return self._slots[kind] - used

    @property
    def isolation_free(self) -> bool:
        """Whether the one slot for suspects is free."""
        return not any(run.claim.isolated for run in self._runs.values())

    broken: Final = None

    def running(self) -> Mapping[tuple[str, int], SimRun]:
        """Runs in progress."""
        return self._runs

    async def idle(self) -> None:
        """Until nothing runs."""
        await self._idle.wait()

    def beat_accepted(self, lease: float) -> None:
        """There are no children."""

    def start(self, claim: Claim) -> None:
        """Pretend to."""
        if self._life.dead:
            return
        run = SimRun(claim, self._life)
        self._runs[claim.id, claim.epoch] = run
        self._idle.clear()
        self._oracle.starts(run)
        seconds = self._chaos.dice.uniform(0.01, LONG_RUN if self._chaos.strikes("handler lasts") else SHORT_RUN)
        self._end_in(seconds, run, self._fate(claim))

    def stop(self, job_id: str, epoch: int, reason: StopReason) -> None:
        """It ends soon, whatever it was about to do."""
        run = self._runs.get((job_id, epoch))
        if run is None or run.stopped:
            return
        run.stopped = True
        self._end_in(self._chaos.dice.uniform(0, 0.3), run, stopped(run.claim, reason))

    def _fate(self, claim: Claim) -> Ending | None:
        if self._chaos.strikes("handler kills"):
            return Ending(outcome=Outcome.CRASHED) if claim.isolated else None
        if self._chaos.strikes("handler fails"):
            final = self._chaos.dice.random() < 0.2
            return Ending(outcome=Outcome.FAILED, error=ErrorInfo("E", "no"), final=final)
        if self._chaos.strikes("snooze"):
            return Ending(outcome=Outcome.SNOOZED, after=self._chaos.dice.uniform(0, 3))
        return Ending(outcome=Outcome.SUCCEEDED, result=f'"{claim.epoch} {claim.worker}"')

    def _end_in(self, seconds: float, run: SimRun, ending: Ending | None) -> None:
        if run.timer:
            run.timer.cancel()
        run.timer = asyncio.get_running_loop().call_later(seconds, self._end, run, ending)

    def _end(self, run: SimRun, ending: Ending | None) -> None:
        if self._life.dead:
            return
        if ending is None:
            self._die()
            return
        del self._runs[run.claim.id, run.claim.epoch]
        self._oracle.ends(run, ending.outcome)
        if not self._runs:
            self._idle.set()
        self._done(run.claim, ending)

    def _kind(self, run: SimRun) -> RunsIn:
        return self._registry.get(run.claim.task).runs_in
