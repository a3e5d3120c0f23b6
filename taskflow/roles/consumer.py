"""The consumer role: tickets in, runs, endings out."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from taskflow.core.job import Claim, Lane, LaneKey, RunsIn, Ticket
from taskflow.core.lifecycle import Ending
from taskflow.core.retry import RetryPolicy
from taskflow.flow.claim import Claimer, Slots
from taskflow.flow.draw import ISOLATED, Drawer
from taskflow.flow.flying import Flying
from taskflow.flow.heart import boot_seconds
from taskflow.flow.intake import Intake
from taskflow.flow.loops import Bell, keep
from taskflow.flow.progress import ProgressWriter
from taskflow.flow.publish import Publisher
from taskflow.flow.reconcile import Run, differences
from taskflow.flow.run import Runners, StopReason
from taskflow.flow.run.runners import STALLED
from taskflow.flow.settle import Settler
from taskflow.ports.broker import Broker, Consumption
from taskflow.ports.events import Events
from taskflow.ports.store import Beat, StateStore, WorkerInfo
from taskflow.roles.stop import Stop
from taskflow.roles.worker import Lease, Worker
from taskflow.tasks.registry import Registry

QUEUES_PERIOD: Final = 5.0
LAST_WORDS: Final = 2.0
"""Seconds at the end of the graceful time that are left to stopped runs."""

log = logging.getLogger("taskflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerConfig:
    """What a consumer may do. `queues` limits it; empty means all. `graceful` is in seconds."""

    lease: Lease
    graceful: float
    slots: Mapping[RunsIn, int]
    queues: Sequence[str] = ()


class Consumer:
    """One worker: claims what its slots can run, runs it, settles it.

    Args:
        runners: makes the runners, given what to call with each ending, where slots may be used again, and where
            there is room in line again.
        fatal: ends the process with exit code 70 after a drain.
        due: told in how many seconds a job runs again.
        alone: whether no other worker than this one (its id is given) is known to live.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        *,
        store: StateStore,
        broker: Broker,
        events: Events,
        publisher: Publisher,
        registry: Registry,
        progress: ProgressWriter,
        runners: Callable[[Callable[[Claim, Ending], None], Callable[[], None], Callable[[], None]], Runners],
        fatal: Callable[[str], None],
        due: Callable[[float], None] = lambda _: None,
        alone: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._config = config
        self._alone = alone
        self._store = store
        self._broker = broker
        self._events = events
        self._publisher = publisher
        self._registry = registry
        self._progress = progress
        self._tasks = {kind: [task.name for task in registry.by_kind(kind)] for kind in RunsIn}
        self._started: dict[Run, float] = {}
        self._unstarted: list[Claim] = []
        self._stopped = False
        self._lanes: list[LaneKey] = []
        self._queues = Bell()
        self._background: set[asyncio.Task[None]] = set()
        self._runners = runners(self._done, self._freed, self._caught_up)
        self._slots = Slots(self._runners.free)
        self._intake = Intake(self._landed)
        self.settler = Settler(
            store, events, publisher, policy=self._policy, last_word=progress.take, fatal=fatal, due=due
        )
        self.worker = Worker(
            store,
            store.heart,
            config.lease,
            describe=self._describe,
            heard=self._heard,
            fence=self._fence,
            tickets=publisher.offer,
            announce=self._announce,
        )
        self._flying = Flying(store)
        self.claimer = Claimer(
            self._flying,
            self._intake,
            self._slots,
            worker=lambda: self.worker.id,
            tasks=self._tasks.__getitem__,
            start=self._start,
            late=self._late,
        )
        self.drawer = Drawer(
            self._flying,
            self._intake,
            self._slots,
            worker=lambda: self.worker.id,
            tasks=self._tasks.__getitem__,
            lanes=lambda: self._lanes,
            isolation_free=lambda: self._slots.open and self._runners.isolation_free,
            linked=self._linked,
            unused=self.claimer.bell.ring,
            start=self._start,
        )
        self._consumption: Consumption | None = None

    async def run(self, stop: Stop, started: Callable[[], None]) -> None:
        """Work until asked to stop, then drain."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._runners)
            await self.worker.register()
            await self._look_at_queues()
            prefetch = 2 * sum(self._config.slots.values())
            self._consumption = await stack.enter_async_context(
                self._broker.consume(self._lanes, prefetch, self._intake.land)
            )
            loops = [
                asyncio.create_task(loop)
                for loop in (
                    keep("claim", self.claimer.once, self.claimer.bell),
                    keep("draw", self.drawer.once, self.drawer.bell),
                    keep("queues", self._look_at_queues, self._queues),
                    keep("progress", self._progress.once),
                    keep("events", self._hear),
                )
            ]
            started()
            try:
                await stop.asked.wait()
            finally:
                await self._drain(loops, stop)

    def take(self, tickets: Sequence[Ticket]) -> Sequence[Ticket]:
        """Begin what was queued in this very process and can begin here, where no other worker would be passed over; the
        rest is returned."""
        return self.claimer.take(tickets, self._lanes) if self._consumption and self._alone(self.worker.id) else tickets

    def ready(self) -> str | None:
        """Why this consumer is not consuming, or `None` where it is."""
        if not self.worker.id:
            return "not registered"
        if boot_seconds() - self.worker.last_beat > self._config.lease.length:
            return "no beat was accepted within the lease"
        if self._consumption is None or not self._consumption.live:
            return "the broker has no consumer of this worker"
        if self._runners.silent >= STALLED:
            return f"the handlers' loop has shown no life for {self._runners.silent:.0f} s: a handler blocks it or broke it"
        if any(self._slots.free(kind) and self._intake.age(kind) > STALLED for kind in RunsIn):
            return f"tickets wait and slots are free, but nothing was claimed for {STALLED:.0f} s"
        if self._runners.broken:
            return f"no child process starts: {self._runners.broken}"
        return None

    async def _drain(self, loops: Sequence[asyncio.Task[None]], stop: Stop) -> None:
        """Claim no more, let runs end, stop the rest as interruptions, write every ending, beat until the last."""
        self._slots.closed = True
        last_words = min(LAST_WORDS, self._config.graceful / 4)
        await self._wait_for_runs(self._config.graceful - last_words, stop.now)
        self._stopped = True
        for run in list(self._runners.running()):
            self._runners.stop(*run, StopReason.SHUTDOWN)
        await self._wait_for_runs(last_words, asyncio.Event())
        try:
            async with asyncio.timeout(10):
                await self.settler.drain()
                await self.worker.stop()
        except Exception as error:
            log.warning("not everything was settled before the end; the sweep of another process will: %r", error)
        for loop in (*loops, *self._background, *self.claimer.background):
            loop.cancel()
        await asyncio.wait([*loops, asyncio.create_task(asyncio.sleep(0))])

    async def _wait_for_runs(self, seconds: float, hurry: asyncio.Event) -> None:
        hurried = asyncio.create_task(hurry.wait())
        idle = asyncio.create_task(self._runners.idle())
        await asyncio.wait([hurried, idle], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        idle.cancel()

    def _start(self, claim: Claim) -> None:
        if self._slots.fenced:
            return  # answered too late: an accepted beat gives it back, or a sweep does
        if self._stopped or claim.worker != self.worker.id:
            # Answered when runs have been stopped already, or to a worker that is no more: nobody would stop this one.
            self._unstarted.append(claim)
            if len(self._unstarted) == 1:
                self._spawn(self._release_unstarted())
            return
        self._runners.start(claim)
        self._started[claim.id, claim.epoch] = boot_seconds()
        if not claim.isolated:
            self.drawer.started(self._registry.get(claim.task).runs_in)

    def _done(self, claim: Claim, ending: Ending) -> None:
        self._started.pop((claim.id, claim.epoch), None)
        self.settler.settle(claim, ending)
        self.claimer.bell.ring()
        self.drawer.ended(ISOLATED if claim.isolated else self._registry.get(claim.task).runs_in)

    def _freed(self) -> None:
        self.claimer.bell.ring()
        self.drawer.look()

    def _caught_up(self) -> None:
        self.claimer.bell.ring()
        self.drawer.bell.ring()

    def _late(self) -> None:
        self.drawer.hurry()

    def _linked(self) -> bool:
        linked = self._consumption is not None and self._consumption.live and self._publisher.connected
        if not linked and self.claimer.told:
            log.info("no tickets come: jobs are drawn from the table")
            self.claimer.told = False
        return linked

    def _landed(self) -> None:
        self.claimer.bell.ring()

    def _policy(self, task: str) -> RetryPolicy:
        return self._registry.get(task).retry

    async def _announce(self) -> None:
        await self._store.publish_tasks([task.info for task in self._registry.tasks.values()])
        await self._events.publish("tasks", b"")

    def _describe(self, worker: str) -> WorkerInfo:
        return WorkerInfo(
            id=worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=tuple(self._config.queues),
            tasks=tuple(self._registry.tasks),
            slots={kind.value: n for kind, n in self._config.slots.items()},
            lease=self._config.lease.length,
        )

    def _heard(self, beat: Beat, asked: float) -> None:
        if self._slots.fenced:
            self._slots.fenced = False
            self._freed()
        # Sent, not heard: a child's switch must not outlive the worker's own fence by the time an answer took.
        self._runners.beat_accepted(self._config.lease.fence - (boot_seconds() - asked))
        patience = max(2 * self._config.lease.beat, self._flying.longest)
        found = differences(beat.held, self._started, self.settler.open, asked=asked, patience=patience)
        for run in found.cancel:
            self._runners.stop(*run, StopReason.CANCELLED)
        for run in found.lost:
            self._runners.stop(*run, StopReason.LOST)
        if found.release:
            self._spawn(self._release(self.worker.id, found.release))

    async def _release_unstarted(self) -> None:
        claims, self._unstarted = self._unstarted, []
        for worker in {claim.worker for claim in claims}:
            await self._release(worker, [(claim.id, claim.epoch) for claim in claims if claim.worker == worker])

    async def _release(self, worker: str, runs: Sequence[Run]) -> None:
        try:
            self._publisher.offer(await self._store.release(worker, runs))
        except Exception as error:
            log.warning("%d claimed rows that nobody here runs are given back at a later beat: %r", len(runs), error)
        else:
            log.warning("gave back %d claimed rows that nobody here runs", len(runs))

    def _fence(self) -> None:
        # What is claimed from here on would be run beside whoever takes it over: nobody would stop it in time.
        self._slots.fenced = True
        for run in list(self._runners.running()):
            self._runners.stop(*run, StopReason.LOST)

    async def _look_at_queues(self) -> float:
        paused = await self._store.queue_names()
        mine = [name for name in paused if not self._config.queues or name in self._config.queues]
        lanes = [LaneKey(name, lane) for lane in Lane for name in sorted(mine) if not paused[name]]
        if lanes != self._lanes:
            self._lanes = lanes
            # A queue that was resumed has rows whose tickets found it paused.
            self.drawer.look()
            if self._consumption:
                await self._consumption.follow(lanes)
        return QUEUES_PERIOD

    async def _hear(self) -> float:
        async with self._events.subscribe("cancel", "queues") as events:
            async for topic, body in events:
                if topic == "queues":
                    self._queues.ring()
                    continue
                job_id, _, epoch = body.decode().partition(" ")
                if epoch.isdecimal() and (job_id, int(epoch)) in self._started:
                    self._runners.stop(job_id, int(epoch), StopReason.CANCELLED)
        return 1.0

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
