"""Two processes with all their roles, their clients and their troubles, in virtual time and the order that a seed wills.

What runs is the product: consumer, worker, heart, claim, draw, settle, publish, promote and sweep. The store is the one in
dictionaries; store, broker and events are reached through ports that fail (`sim_ports`), and handlers only pretend to run
(`sim_runners`). After a while the troubles end, and everything has to come to rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from taskflow import RetryPolicy, task
from taskflow.adapters.memory import MemoryBroker
from taskflow.core.errors import Conflict, TaskFlowError
from taskflow.core.job import Idempotency, Job, NewJob, Outcome, RunsIn, State
from taskflow.flow.progress import ProgressWriter
from taskflow.flow.publish import Publisher
from taskflow.flow.submit import Submitter
from taskflow.flow.upkeep import Promoter, Sweeper
from taskflow.ports.store import JobQuery
from taskflow.roles.consumer import Consumer, ConsumerConfig
from taskflow.roles.scheduler import Scheduler
from taskflow.roles.stop import Stop
from taskflow.roles.worker import Lease
from taskflow.tasks.declare import Task
from taskflow.tasks.registry import Registry
from taskflow.testing.memory import MemoryStore
from tests.models.sim_ports import BrokerPort, Chaos, Life, SimEvents, StorePort
from tests.models.sim_runners import Oracle, SimRunners
from tests.models.virtual_time import BEGIN, VirtualLoop, pause, virtual_time

LEASE: Final = Lease(8.0, beat=2.0, fence=6.0)
SWEEP: Final = 2.0
STORMY: Final = 25.0
REST_WITHIN: Final = 120.0
"""Two leases, the longest backoffs and every retry, and slack; what takes longer does not come to rest."""
RETRY: Final = RetryPolicy(attempts=4, base=0.2, cap=2.0)
KINDS: Final = (
    "submit", "submit", "flood", "cancel", "cancel", "kill", "stop", "restart", "restart", "purge", "pause", "resume",
    "store", "broker", "cut off", "replay", "rest",
)  # fmt: skip
KILLING: Final = ("kill", "stop", "store")
LIVE: Final = JobQuery(
    tenant="default", limit=10_000, states=frozenset(state for state in State if not state.terminal), ascending=True
)
MIDNIGHT: Final = datetime(2026, 1, 1, tzinfo=UTC)


@task("sim.async", queue="one", retry=RETRY)
async def sim_async() -> None:
    """Never called."""


@task("sim.thread", queue="two", retry=RETRY)
def sim_thread() -> None:
    """Never called."""


REGISTRY: Final = Registry([sim_async, sim_thread])
_owner: ContextVar[Process | None] = ContextVar("owner", default=None)


@dataclass(eq=False)
class Process:
    """All roles in one process, started and killed at will."""

    world: World
    life: Life
    lease: Lease = LEASE
    stop: Stop = field(default_factory=Stop)
    tasks: dict[asyncio.Task[Any], None] = field(default_factory=dict)

    def start(self) -> None:
        """Begin; it ends by itself when it was asked to, or when it cannot start."""
        world, life = self.world, self.life
        self.store = StorePort(world.store, life, world.chaos)
        self.publisher = Publisher(BrokerPort(world.broker, life, world.chaos), lambda: 2, lambda _: 2)
        promoter = Promoter(self.store, self.publisher)
        self.submitter = Submitter(self.store, self.publisher, promoter.expect)
        sweeper = Sweeper(self.store, self.publisher, world.events, period=SWEEP, gap=LEASE.length / 2)
        slots = {kind: world.chaos.dice.randint(1, 4) for kind in RunsIn}
        consumer = Consumer(
            ConsumerConfig(lease=self.lease, graceful=2.0, slots=slots),
            store=self.store,
            broker=BrokerPort(world.broker, life, world.chaos),
            events=world.events,
            publisher=self.publisher,
            registry=REGISTRY,
            progress=ProgressWriter(self.store),
            runners=lambda done, freed, _: SimRunners(  # type: ignore[arg-type,return-value]  # the same surface
                REGISTRY, slots, done, life=life, chaos=world.chaos, oracle=world.oracle, die=self.die
            ),
            fatal=lambda why: world.oracle.wrong.append(f"fatal: {why}"),
            due=promoter.expect,
        )
        scheduler = Scheduler(promoter, sweeper, _KeepsAll())  # type: ignore[arg-type]
        self.main = self.spawn(self._live(consumer, scheduler))

    async def _live(self, consumer: Consumer, scheduler: Scheduler) -> None:
        others = [self.spawn(self.publisher.run()), self.spawn(scheduler.run(self.stop, _nothing))]
        try:
            await consumer.run(self.stop, _nothing)
        except TaskFlowError as error:
            # Whoever cannot start, or is cut off at its end, is started again by others.
            self.world.chaos.note(self.life.name, "ended", error)
        finally:
            for other in others:
                other.cancel()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process, as are those that it makes."""
        before = _owner.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            _owner.reset(before)

    @property
    def gone(self) -> bool:
        """Killed, ended, or never started."""
        return self.life.dead or self.main.done()

    def die(self) -> None:
        """At once and without a word: whatever it was doing is not done, what it sent is on its way."""
        if not self.life.dead:
            self.world.chaos.note("dies", self.life.name)
            self.life.dead = True
            self.world.spawn(self._bury())

    async def _bury(self) -> None:
        while left := [each for each in self.tasks if not each.done()]:
            for each in left:
                each.cancel()
            await pause(0.0001)


class World:
    """Everything that there is in a simulation."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.loop = loop
        self.chaos = Chaos(seed)
        self.store = MemoryStore(lambda: MIDNIGHT + timedelta(seconds=loop.time() - BEGIN))
        self.oracle = Oracle(self.store._tables.alive)
        self.broker = MemoryBroker()
        self.events = SimEvents(self.chaos)
        self.processes: list[Process] = []
        self.did: dict[str, int] = {}
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._numbers = 0
        # Not everything happens in every seed: where nobody is killed, others live long enough to be cut off.
        spared = KILLING if self.chaos.dice.random() < 0.4 else ()
        self._kinds = ["submit", *(kind for kind in KINDS if kind not in spared and self.chaos.dice.random() < 0.7)]
        loop.set_task_factory(self._task)
        loop.set_exception_handler(
            lambda _, told: self.oracle.wrong.append(f"{told['message']}: {told.get('exception')!r}")
        )

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        made = asyncio.Task(work, loop=loop, **options)
        owner = _owner.get()
        tasks = self._tasks if owner is None else owner.tasks
        tasks[made] = None
        made.add_done_callback(lambda done: tasks.pop(done, None))
        return made

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task of nobody's."""
        before = _owner.set(None)
        try:
            return self.loop.create_task(work)
        finally:
            _owner.reset(before)

    def name(self, what: str) -> str:
        """A new one."""
        self._numbers += 1
        return f"{what}-{self._numbers:04}"

    async def live(self) -> None:
        """Storm, calm, rest."""
        await self.store.ensure_queues(["one", "two"])
        for slot in range(2):
            self.processes.append(self.process(slot))
        end = self.loop.time() + STORMY
        while self.loop.time() < end:
            await pause(self.chaos.dice.uniform(0.01, 0.6))
            await self._act()
        self.chaos.calm = True
        self.chaos.store_down = self.chaos.broker_down = False
        for process in self.processes:
            process.life.cut_off = False
        for queue in ("one", "two"):
            await self.store.resume(queue)
        # Every other seed has to find its lost tickets' rows beside a lane that is never empty.
        await self._come_to_rest(flooded=self.chaos.dice.random() < 0.5)
        for process in self.processes:
            process.stop.ask()
        await asyncio.wait([process.main for process in self.processes], timeout=30)
        for process in self.processes:
            process.die()
        await pause(1)

    def process(self, slot: int, lease: Lease = LEASE) -> Process:
        """A new one, started."""
        process = Process(self, Life(self.name(f"process-{slot}"), self.spawn), lease)
        process.start()
        return process

    async def _come_to_rest(self, *, flooded: bool) -> None:
        storm = {*self.oracle.accepted, *self.oracle.perhaps}
        end = self.loop.time() + (REST_WITHIN * 2 if flooded else REST_WITHIN)
        while left := [job for job in await self.store.find(LIVE) if job.id in storm]:
            self._restart()
            if flooded:
                await self._flood()
            await pause(0.5)
            if self.loop.time() > end:
                self.oracle.wrong += [f"stuck: {job.id} is {job.state}, {job.reason}" for job in left]
                return
        self.chaos.note("at rest", self.loop.time())
        if flooded:
            await self._come_to_rest(flooded=False)

    async def _flood(self) -> None:
        """Tickets enough that no slot is ever without one."""
        [_, one] = sorted(await self.store.queues(), key=lambda queue: queue.name == "one")
        for _ in range(max(0, 16 - one.depth)):
            self.spawn(self._submit(self.processes[0], REGISTRY.get("sim.async")))
        self.did["flooded"] = 1

    def _restart(self) -> None:
        for slot, process in enumerate(self.processes):
            if process.gone:
                process.die()
                self.processes[slot] = self.process(slot)

    async def _jobs(self) -> list[Job]:
        names = dict.fromkeys([*self.oracle.accepted, *self.oracle.perhaps])
        found = [await self.store.get("default", name) for name in names]
        return [job for job in found if job is not None]

    async def _act(self) -> None:
        """Somebody does something, or something breaks."""
        dice, chaos = self.chaos.dice, self.chaos
        process = dice.choice(self.processes)
        what = dice.choice(self._kinds)
        self.did[what] = self.did.get(what, 0) + 1
        chaos.note(self.loop.time(), what)
        match what:
            case "submit" | "flood" if not process.gone:
                for _ in range(dice.randint(1, 4) if what == "submit" else 12):
                    self.spawn(self._submit(process))
            case "cancel" if self.oracle.accepted:
                self.spawn(self._cancel(process, dice.choice(list(self.oracle.accepted))))
            case "kill":
                process.die()
            case "stop":
                process.stop.ask()
            case "restart":
                self._restart()
            case "purge":
                self.broker._lanes.clear()
            case "pause" | "resume":
                queue = dice.choice(("one", "two"))
                await (self.store.pause(queue, None) if what == "pause" else self.store.resume(queue))
                await self.events.publish("queues", b"")
            case "store":
                chaos.store_down = not chaos.store_down and dice.random() < 0.5
            case "cut off":
                process.life.cut_off = True
                self.loop.call_later(dice.uniform(0, 2 * LEASE.length), setattr, process.life, "cut_off", False)
            case "broker":
                chaos.broker_down = not chaos.broker_down and dice.random() < 0.5
            case "replay":
                self.spawn(self._replay(process))

    async def _submit(self, process: Process, wanted: Task[..., Any] | None = None) -> None:
        dice = self.chaos.dice
        chosen = wanted or dice.choice(list(REGISTRY.tasks.values()))
        key = f"key-{dice.randint(0, 9)}" if dice.random() < 0.2 else None
        new = NewJob(
            id=self.name("job"),
            task=chosen.name,
            queue=chosen.info.queue,
            priority=5 if wanted else dice.choice((1, 5, 5, 8)),
            runs_in=chosen.runs_in,
            payload="{}",
            max_attempts=RETRY.attempts,
            timeout=600.0,  # nothing is to be rescued by its deadline
            delay=None if wanted else dice.choice((None, None, None, dice.uniform(0, 5))),
            idempotency=None if key is None else Idempotency("jobs", key, "f"),
        )
        self.oracle.perhaps[new.id] = None
        told = await _told(process.spawn(process.submitter.submit(new)))
        if isinstance(told, BaseException):
            return
        self.oracle.accepted[told.job_id] = None
        if key is not None and self.oracle.owners.setdefault(key, told.job_id) != told.job_id:
            self.oracle.wrong.append(f"{key} made {told.job_id} and {self.oracle.owners[key]}")

    async def _cancel(self, process: Process, job_id: str) -> None:
        job = await _told(process.spawn(process.store.cancel("default", job_id)))
        if isinstance(job, Job) and job.state is State.CANCELLED:
            self.oracle.cancelled.add(job_id)
        elif isinstance(job, Job) and job.state is State.RUNNING:
            await self.events.publish("cancel", f"{job.id} {job.epoch}".encode())

    async def _replay(self, process: Process) -> None:
        failed = [job.id for job in await self._jobs() if job.state is State.FAILED]
        if failed and not process.gone:
            chosen = self.chaos.dice.choice(failed)
            told = await _told(process.spawn(process.store.replay("default", chosen)))
            if isinstance(told, tuple):
                process.publisher.offer([told[1]])
            elif isinstance(told, Exception) and not isinstance(told, Conflict):
                self.chaos.note("replay unknown", chosen)


class _KeepsAll:
    async def once(self) -> float:
        return 60.0


async def _told(task: asyncio.Task[Any]) -> Any:
    """What somebody in a process was answered: a value, or why there is none."""
    await asyncio.wait([task])
    return asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a seed."""

    wrong: list[str]
    digest: str
    jobs: int
    starts: int
    happened: dict[str, int]


def simulate(seed: int) -> Report:
    """Run one seed to its end, and judge it."""
    with virtual_time(seed) as loop:
        world = World(seed, loop)
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(world.live())
            jobs = loop.run_until_complete(world._jobs())
            loop.run_until_complete(_end(world))
        finally:
            asyncio.set_event_loop(None)
        oracle = world.oracle
        there = {job.id for job in jobs}
        wrong = [*oracle.wrong, *(f"{name} was accepted and is gone" for name in oracle.accepted if name not in there)]
        for job in jobs:
            wrong += _judge(job, oracle)
        return Report(wrong, world.chaos.digest, len(jobs), len(oracle.started), world.chaos.happened | world.did)


async def _end(world: World) -> None:
    left = [each for each in world._tasks if each is not asyncio.current_task()]
    for each in left:
        each.cancel()
    if left:
        await asyncio.wait(left)


def _judge(job: Job, oracle: Oracle) -> list[str]:
    """What the store says beside what handlers did."""
    wrong = []
    if [attempt.epoch for attempt in job.attempts] != list(range(1, job.epoch + 1)):
        wrong.append(f"{job.id}: not one closing record an epoch")
    for attempt in job.attempts:
        run = (job.id, attempt.epoch)
        if attempt.outcome is Outcome.SUCCEEDED and (
            run not in oracle.returned or oracle.started[run] != attempt.worker
        ):
            wrong.append(f"{job.id} epoch {attempt.epoch} succeeded, but its handler did not")
    if job.state is State.SUCCEEDED and job.result != f'"{job.epoch} {job.worker}"':
        wrong.append(f"{job.id} has another run's result: {job.result}")
    return wrong
