"""What was written and not heard of: the reply to each verb of a worker and of a scheduler is lost after its commit.
Each job is closed once, no attempt is lost, nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from taskflow import task
from taskflow.adapters.memory import MemoryBroker, MemoryEvents
from taskflow.adapters.sql import PostgresStore, SqliteStore, schema
from taskflow.core.errors import StoreUnavailable
from taskflow.core.job import Idempotency, Job, Outcome, RunsIn, State
from taskflow.flow.effects import RunEffects
from taskflow.flow.loops import keep
from taskflow.flow.progress import ProgressWriter
from taskflow.flow.publish import Publisher
from taskflow.flow.run import Runners, runners
from taskflow.flow.submit import Submitter
from taskflow.flow.upkeep import Promoter, Sweeper
from taskflow.ports.store import JobQuery, StateStore, WorkerInfo
from taskflow.roles import consumer
from taskflow.roles.consumer import Consumer, ConsumerConfig
from taskflow.roles.stop import Stop
from taskflow.roles.worker import Lease
from taskflow.tasks.registry import Registry
from taskflow.testing.store_facts import LANE, job
from tests.adapters.postgres_house import emptied, own_schema, url_of
from tests.flow.fakes import Index, Objects
from tests.support import FULL, lasting, until

LEASE = Lease(2.0, beat=0.25, fence=1.5)
SWEEP = 0.25


class Forgetful:
    """A store whose replies are lost: what was asked is done, and the caller hears that the store is away.

    Attributes:
        losing: how many replies of each method will be lost yet.
        lost: how many were.
        deaf: whether no beat arrives.
    """

    deaf = False

    def __init__(self, store: StateStore, **losing: int) -> None:
        self._store = store
        self.losing = Counter(losing)
        self.lost: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def asked(*args: Any, **values: Any) -> Any:
            answer = await method(*args, **values)
            # An answer that says nothing is no loss.
            if self.losing[name] and _says_something(name, answer):
                self.losing[name] -= 1
                self.lost[name] += 1
                raise StoreUnavailable(f"the reply to {name} was lost")
            return answer

        return asked

    @asynccontextmanager
    async def heart(self) -> AsyncIterator[Any]:
        """The beats' own connection forgets, too."""
        async with self._store.heart() as workers:
            inner: Any = Forgetful(cast("StateStore", workers))
            inner.losing, inner.lost = self.losing, self.lost
            beat = inner.beat

            async def beaten(worker: str) -> Any:
                if self.deaf:
                    raise StoreUnavailable("nobody hears a beat")
                return await beat(worker)

            inner.beat = beaten
            yield inner


def _says_something(name: str, answer: Any) -> bool:
    if name == "promote":
        return bool(answer.tickets)
    if name == "sweep":
        return bool(answer.rescued or answer.parked or answer.unparked)
    return bool(answer) or name in {"beat", "register", "stop", "publish_tasks"}


class Deaf(MemoryBroker):
    """Loses every third ticket."""

    async def publish(self, tickets: Any, *, share: int = 1) -> None:
        kept = [ticket for ticket in tickets if random.random() > 1 / 3]
        await super().publish(kept, share=share)


class House:
    """A consumer and a scheduler in this process, on a store that forgets.

    Args:
        gap: of the scheduler; at 0 each of its sweeps gives everybody a lease to be heard.

    Attributes:
        begun: how often the handler of each key began.
    """

    def __init__(self, store: Forgetful, gap: float = LEASE.length / 2) -> None:
        self.store = store
        self.typed = cast("StateStore", store)
        self.begun: Counter[str] = Counter()
        self.fatal: list[str] = []
        self.stop = Stop()

        @task("house.work")
        async def work(key: str, fails: int = 0, seconds: float = 0.0) -> str:
            self.begun[key] += 1
            await lasting(seconds)
            if self.begun[key] <= fails:
                raise RuntimeError("not yet")
            return key

        registry = Registry([work], [])
        events, broker, progress = MemoryEvents(), Deaf(), ProgressWriter(self.typed)
        effects = RunEffects(SimpleNamespace(append=lambda *_: None), progress, Index(), Objects(), "ns")
        slots = {RunsIn.ASYNC: 20, RunsIn.THREAD: 1, RunsIn.PROCESS: 1}
        self.publisher = Publisher(broker)
        self.submitter = Submitter(self.typed, self.publisher)
        self.consumer = Consumer(
            ConsumerConfig(lease=LEASE, graceful=1.0, slots=slots),
            store=self.typed,
            broker=broker,
            events=events,
            publisher=self.publisher,
            registry=registry,
            progress=progress,
            fatal=self.fatal.append,
            runners=lambda done, freed, _: Runners(
                registry, slots, done, effects=effects, lease=LEASE.fence, fatal=self.fatal.append, freed=freed
            ),
        )
        sweeper = Sweeper(self.typed, self.publisher, events, period=SWEEP, gap=gap)
        promoter = Promoter(self.typed, self.publisher)
        self._loops = [
            self.publisher.run(),
            keep("promote", promoter.once, promoter.bell),
            keep("sweep", sweeper.once),
        ]

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[House]:
        """Until it has drained."""
        started = asyncio.Event()
        loops = [asyncio.create_task(loop) for loop in self._loops]
        role = asyncio.create_task(self.consumer.run(self.stop, started.set))
        await started.wait()
        try:
            yield self
        finally:
            self.stop.asked.set()
            await role
            for loop in loops:
                loop.cancel()
            await asyncio.wait(loops)

    async def submit(self, **payload: Any) -> str:
        """As a client does that hears of a failure: again, with its key. The id of the job."""
        key = payload["key"]
        while True:
            try:
                stored = await self.submitter.submit(
                    job(
                        task="house.work",
                        payload=json.dumps(payload),
                        max_attempts=3,
                        idempotency=Idempotency("jobs", key, "print"),
                    )
                )
            except StoreUnavailable:
                continue
            return stored.job_id

    async def shown(self, state: State | None = None) -> list[Job]:
        """Jobs in a state, or all."""
        found = await self.typed.find(JobQuery(tenant="default", states=frozenset([state] if state else []), limit=500))
        return list(found)


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A schema for all tests of this file."""
    with own_schema() as made:
        yield made


STORES = ("postgresql", "sqlite") if FULL else ("postgresql",)


@pytest.fixture(params=[pytest.param(each, marks=pytest.mark.adapter(each)) for each in STORES])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Forgetful]:
    """A store that forgets what it is told to."""
    if request.param == "postgresql":
        name: str = request.getfixturevalue("name")
        await emptied(name)
        async with PostgresStore.from_url(url_of(name)) as store:
            yield Forgetful(store)
        return
    schema.upgrade(f"sqlite:///{tmp_path}/t.db")
    async with SqliteStore(tmp_path / "t.db") as store:
        yield Forgetful(store)


async def test_replies_that_are_lost_lose_nothing(store: Forgetful) -> None:
    """To claims, draws, settles, submits, promotions, sweeps, beats, releases: each job is closed once, its handler ran
    as often as it had to, and no attempt was charged that was not made."""
    house = House(store)
    ghost = WorkerInfo(id="ghost", host="h", pid=1, queues=(), tasks=("house.work",), slots={}, lease=LEASE.length)
    await house.typed.register(ghost)
    left = [await house.submit(key=f"left{n}") for n in range(5)]
    assert len(await house.typed.claim("ghost", left, ["house.work"])) == 5
    store.losing.update(insert=3, claim=3, draw=2, settle=4, promote=2, sweep=1, beat=2, release=1)
    async with house.at_work():
        await asyncio.gather(*(house.submit(key=f"k{n}", fails=n % 2, seconds=0.01) for n in range(60)))
        await until(lambda: len(house.begun) >= 60, 30)
        late = await asyncio.gather(*(house.submit(key=f"late{n}") for n in range(20)))
        await until_over(house, 85)
    assert not house.fatal
    assert store.losing.total() == 0, store.losing
    assert store.lost.total() == 18
    assert len(late) == len(set(late)) == 20
    jobs = await house.shown()
    assert {one.state for one in jobs} == {State.SUCCEEDED}
    for one in jobs:
        key = json.loads(one.payload)["key"]
        fails = json.loads(one.payload).get("fails", 0)
        whole = await house.typed.get("default", one.id)
        assert whole is not None
        ends = Counter(attempt.outcome for attempt in whole.attempts)
        assert (ends[Outcome.SUCCEEDED], ends[Outcome.FAILED], house.begun[key], one.attempt) == (
            1,
            fails,
            fails + 1,
            fails + 1,
        )
        assert set(ends) <= {Outcome.SUCCEEDED, Outcome.FAILED, Outcome.INTERRUPTED, Outcome.CRASHED}
    assert house.consumer.settler.zombies == 0


async def until_over(house: House, count: int) -> None:
    """Wait until so many jobs have succeeded."""

    async def over() -> Any:
        return len(await house.shown(State.SUCCEEDED)) == count

    await until(over, 30)


@pytest.mark.parametrize("store", [pytest.param("sqlite", marks=pytest.mark.adapter("sqlite"))], indirect=True)
async def test_a_worker_that_nobody_hears_begins_nothing_until_it_is_heard(store: Forgetful) -> None:
    """Only its beats fail, and it can claim: what it began after its fence, nobody would stop before another takes it."""
    house = House(store, gap=0.0)
    async with house.at_work():
        await house.submit(key="before")
        await until_over(house, 1)
        store.deaf = True
        await until(lambda: not house.consumer.drawer._slots.open, 20)
        late = await house.submit(key="late")
        claims = await house.typed.draw(house.consumer.worker.id, [LANE], ["house.work"], 1)
        assert [claim.id for claim in claims] == [late]
        house.consumer._start(claims[0])
        third = await house.submit(key="third")
        assert await house.consumer.drawer.once() > 0
        assert await house.consumer.claimer.once() > 0
        shown = await house.typed.get("default", third)
        assert (shown and shown.state, house.begun.total()) == (State.QUEUED, 1)
        store.deaf = False
        await until_over(house, 3)
    assert house.begun == {"before": 1, "late": 1, "third": 1}


def silence(store: Forgetful, draw: Callable[..., Any] | None = None) -> None:
    """Let a worker claim nothing, or by this draw only."""

    async def nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    for name, method in {"claim": nothing, "draw": draw or nothing}.items():
        setattr(store._store, name, method)


@pytest.mark.parametrize("store", [pytest.param("sqlite", marks=pytest.mark.adapter("sqlite"))], indirect=True)
async def test_a_claim_that_is_long_in_coming_is_not_given_back_meanwhile(store: Forgetful) -> None:
    """Its row is claimed, and for longer than two beats nobody runs it: the answer is on its way, and so is the run."""
    house = House(store, gap=0.0)
    answered = asyncio.Event()
    draw = store._store.draw

    async def slow(*args: Any, **values: Any) -> Any:
        claims = await draw(*args, **values)
        if claims:
            await answered.wait()
        return claims

    silence(store, draw=slow)
    async with house.at_work():
        job_id = await house.submit(key="slow")
        await until(lambda: house.consumer._flying.longest > 4 * LEASE.beat, 20)
        shown = await house.typed.get("default", job_id)
        assert shown
        assert (shown.state, shown.epoch, shown.interruptions) == (State.RUNNING, 1, 0)
        answered.set()
        await until_over(house, 1)
    assert house.begun == {"slow": 1}


@pytest.mark.parametrize("store", [pytest.param("sqlite", marks=pytest.mark.adapter("sqlite"))], indirect=True)
async def test_a_claim_of_an_earlier_life_is_given_back_as_what_it_is(store: Forgetful) -> None:
    """Its answer comes when this process is another worker already. Nobody ran it, so nothing crashed."""
    house = House(store, gap=0.0)
    draw = store._store.draw
    silence(store)
    async with house.at_work():
        former = house.consumer.worker.id
        job_id = await house.submit(key="late")
        [claim] = await draw(former, [LANE], ["house.work"], 1)
        heart = house.consumer.worker._heart
        assert heart
        await heart.stop()
        await house.consumer.worker.register()
        assert house.consumer.worker.id != former
        silence(store, draw=draw)
        house.consumer._start(claim)
        await until_over(house, 1)
        shown = await house.typed.get("default", job_id)
    assert shown
    assert (shown.crashes, shown.interruptions, shown.epoch) == (0, 1, 2)
    assert house.begun == {"late": 1}


@pytest.mark.parametrize("store", [pytest.param("sqlite", marks=pytest.mark.adapter("sqlite"))], indirect=True)
async def test_a_worker_whose_handlers_loop_is_silent_says_so_and_claims_nothing_for_it(
    store: Forgetful, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not ready, with the reason, though no run is past its time; what is queued meanwhile is left to others, and claimed
    once the loop is back."""
    for module, name, seconds in (
        (runners, "TICK", 0.05),
        (runners, "QUIET", 0.1),
        (runners, "STALLED", 0.2),
        (consumer, "STALLED", 0.2),
    ):
        monkeypatch.setattr(module, name, seconds)
    release, house = threading.Event(), House(store)
    async with house.at_work():
        await until(lambda: house.consumer.ready() is None)
        house.consumer._runners._loop._on_loop(release.wait, 20)
        await until(house.consumer.ready)
        assert "handlers' loop has shown no life" in str(house.consumer.ready())
        await house.submit(key="left to others")
        later = time.monotonic() + 1.5
        await until(lambda: time.monotonic() > later)
        assert [one.state for one in await house.shown()] == [State.QUEUED]
        release.set()
        await until_over(house, 1)
        assert house.consumer.ready() is None
    assert not house.fatal
