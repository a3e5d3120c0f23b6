"""A store under test beside what it is compared with: the laws of `history` and, for a store on SQL, the store in
dictionaries, answer by answer and document by document. That one is held by the laws and by the conformance suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID

from hypothesis.stateful import RuleBasedStateMachine, invariant

from taskflow.core.errors import Conflict
from taskflow.core.job import Claim, Job, Outcome, State
from taskflow.core.lifecycle import Settlement
from taskflow.ports.store import JobQuery, StateStore
from taskflow.testing.memory import MemoryStore
from taskflow.testing.store_facts import T0
from tests.models.history import History
from tests.models.stores import House

T = TypeVar("T")
TICK: Final = timedelta(milliseconds=10)
ORDERED: Final = frozenset({"insert", "claim", "draw", "settle"})
IN_PARTS: Final = frozenset({"sweep", "retain"})
"""What a store may do in more or fewer calls than another; only what has become of the jobs is compared."""


class StoreMachine(RuleBasedStateMachine):
    """Subclass it with a `house`, with whether the store has a `twin`, and with a counter of its own."""

    house: House
    twin: bool
    happened: ClassVar[Counter[str]] = Counter()
    """What the sequences came upon, so that a test can insist on having met it."""

    def __init__(self) -> None:
        super().__init__()
        self.store = self.house.fresh()
        self.model = MemoryStore() if self.twin else None
        self.history = History()
        self.now = T0
        self.names = 0
        self.accepted: list[str] = []
        self.claims: list[Claim] = []
        self.said: dict[tuple[str, int, Outcome], Settlement] = {}
        self.written: list[tuple[Settlement, State | None]] = []
        self.touched: Collection[str] | None = ()
        self.gone: Collection[str] = ()

    def _name(self) -> str:
        """Names come in order, so that a failing sequence fails again."""
        self.names += 1
        return str(UUID(int=self.names))

    def call(self, method: str, *arguments: Any, timed: bool = True, **options: Any) -> Any:
        """Ask the store, and its model the same; they answer alike."""
        self.now += TICK
        if timed:
            options["now"] = self.now
        answer = self._ask(self.store, method, arguments, options)
        if self.model is not None:
            expected = self._ask(self.model, method, arguments, options)
            if method not in IN_PARTS:
                assert _plain(answer, method) == _plain(expected, method)
        return answer

    def _ask(self, store: StateStore, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        try:
            return self.house.run(getattr(store, method)(*arguments, **options))
        except Conflict:
            return Conflict

    @invariant()
    def laws(self) -> None:
        """After every step."""
        self.history.look(self._look(), self.touched, self.gone)
        self.touched, self.gone = (), ()
        self.happened["looks"] += 1

    def _worker(self, index: int) -> str:
        """Mostly one that lives."""
        living = [worker for worker, facts in self.history.workers.items() if facts.state == "alive"]
        return pick([*living, *living, *self.history.workers], index)

    def _job(self, index: int, likely: State) -> str:
        """Any, one that is in a likely state twice as often."""
        return pick([*(job.id for job in self._in(likely)), *self.accepted], index)

    def _claim(self, index: int) -> Claim:
        """Any, a token that holds more often."""
        holding = [claim for claim in self.claims if self.history.holds(claim)]
        return pick([*holding, *holding, *self.claims], index)

    def _in(self, state: State) -> list[Job]:
        return [job for job in self.history.jobs.values() if job.state is state]

    def _run_by(self, worker: str) -> list[str]:
        return [job.id for job in self._in(State.RUNNING) if job.worker == worker]

    def _count_records(self) -> None:
        ended = [attempt.outcome for job in self.history.jobs.values() for attempt in job.attempts]
        self.happened["died"] += ended.count(Outcome.CRASHED)
        self.happened["lost"] += ended.count(Outcome.LOST)

    def _look(self) -> dict[str, Job | None]:
        async def all_of(store: StateStore) -> dict[str, Job | None]:
            listed = {job.id: job for job in await store.find(JobQuery(tenant="default", limit=10_000))}
            return {job_id: await whole(store, listed.get(job_id), job_id) for job_id in self.accepted}

        async def whole(store: StateStore, listed: Job | None, job_id: str) -> Job | None:
            known = self.history.jobs.get(job_id)
            if listed is not None and known is not None and replace(listed, attempts=known.attempts) == known:
                return known
            return await store.get("default", job_id)

        seen: dict[str, Job | None] = self.house.run(all_of(self.store))
        if self.model is not None:
            assert seen == self.house.run(all_of(self.model))
        return seen


def pick(among: Sequence[T], index: int) -> T:
    """One of them, whatever the number."""
    return among[index % len(among)]


def _plain(answer: Any, method: str) -> Any:
    """An answer without the order that nobody promised."""
    if method == "promote":
        return sorted(answer.tickets), answer.next_due, answer.more
    if method == "beat":
        return answer.alive, sorted(answer.held, key=str)
    return sorted(answer, key=str) if isinstance(answer, list) and method not in ORDERED else answer
