"""The runtime: opens the chosen adapters in order, supervises the roles, and ends them in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import hashlib
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

from taskflow.core.errors import TaskFlowError
from taskflow.core.job import RunsIn
from taskflow.flow.catalog import Catalog
from taskflow.flow.crowd import Crowd
from taskflow.flow.effects import RunEffects
from taskflow.flow.logs import LogShipper
from taskflow.flow.loops import keep
from taskflow.flow.progress import ProgressWriter
from taskflow.flow.publish import Publisher
from taskflow.flow.run import Runners
from taskflow.flow.submit import Submitter
from taskflow.flow.upkeep import Promoter, Retainer, Sweeper, tell
from taskflow.ports.clock import SystemClock
from taskflow.roles.api import ApiDeps, ApiSettings, create_app
from taskflow.roles.consumer import Consumer, ConsumerConfig
from taskflow.roles.scheduler import Scheduler
from taskflow.roles.stop import Role, Stop
from taskflow.tasks.registry import Registry
from taskflow.wiring import banner, database, lock, logs
from taskflow.wiring.container import container_of
from taskflow.wiring.member import Seat
from taskflow.wiring.monitor import monitored
from taskflow.wiring.plugins import PORTS
from taskflow.wiring.server import ApiServer
from taskflow.wiring.settings import Settings
from taskflow.wiring.signals import hear_no_more

OPENING: Final = 15.0
PING: Final = 1.0
BROKEN: Final = 70
GARBAGE: Final = 20_000
"""New objects between two looks of the garbage collector. At Python's own 700 it took a quarter of the time of a job."""

M_ARENA_MAX: Final = -8
"""Of glibc's malloc.h."""
ARENAS: Final = 2

log = logging.getLogger("taskflow")


def main(settings: Settings, seat: Seat | None = None) -> int:
    """Run a process with these settings until it is told to stop.

    Args:
        seat: its place among others that share a port, if it has one.

    Returns:
        The exit code: 0 after a clean stop, 1 where it could not start, 70 where it must be started anew.
    """
    logs.configure(settings["log.format"], settings["log.level"])
    try:
        with ExitStack() as stack:
            stack.enter_context(lock.embedded(settings["store.url"], settings["data_dir"]))
            revision = database.prepare(settings["store.url"], migrate=settings.migrate)
            _settle_memory()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(Runtime(settings, revision, seat).run())
    except TaskFlowError as error:
        hear_no_more()
        log.error("cannot start: %s", error)  # noqa: TRY400 - the reason is all that helps
        return 1


def _settle_memory() -> None:
    """What is there now stays: the collector need not look at it again and again. Threads share what they free: an arena for
    each of ten keeps what nobody else may use."""
    with contextlib.suppress(OSError, AttributeError):  # of another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


def spool_of(settings: Settings) -> Path:
    """Where log lines wait that are not stored yet. What a dead process left there goes to a living one, which must be of
    the same deployment: another one would store them where nobody looks for them, and where strangers might."""
    url = urlsplit(settings["store.url"])
    place = (settings["namespace"], url.scheme, url.hostname or "", url.port or "", url.path, url.query)
    digest = hashlib.sha256("\n".join(map(str, place)).encode()).hexdigest()[:12]
    return Path(settings["data_dir"]) / "spool" / f"{settings['namespace']}-{digest}"


class Runtime:
    """One process."""

    def __init__(self, settings: Settings, revision: str, seat: Seat | None = None) -> None:
        self._settings = settings
        self._revision = revision
        self._seat = seat
        self._roles: dict[str, Role] = {}
        self._exit = 0

    async def run(self) -> int:
        """Open, work, close."""
        settings, self._stop = self._settings, Stop()
        self._opened: dict[str, Any] = {}
        container = container_of(settings.values)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._signals())
            if self._seat:
                self._seat.watch(self._stop, self._ready)
            else:
                await stack.enter_async_context(monitored(settings, self._answer))
            for port in PORTS:
                async with asyncio.timeout(OPENING):
                    self._opened[port] = await stack.enter_async_context(getattr(container, port)())
            self._crowd = Crowd(self._opened["store"])
            self._publisher = Publisher(self._opened["broker"], self._crowd.count, self._crowd.slots)
            for loop in (self._publisher.run(), keep("crowd", self._crowd.once, self._crowd.bell)):
                stack.callback(asyncio.create_task(loop).cancel)
            self._logs = await stack.enter_async_context(
                LogShipper(
                    self._opened["store"],
                    self._opened["artifacts"],
                    self._opened["events"],
                    namespace=settings["namespace"],
                    spool=spool_of(settings),
                )
            )
            await self._adopt()
            await self._work()
        return self._exit

    async def _adopt(self) -> None:
        """Only the holder of the embedded store's lock may say that nobody else is alive."""
        if not self._settings["store.url"].startswith("sqlite:"):
            return
        adopted = await self._opened["store"].adopt()
        self._publisher.offer(adopted.tickets)
        await tell(self._opened["events"], adopted.changed)
        if adopted.rescued:
            log.warning("rescued %d runs of a process that died", adopted.rescued)

    def _begun(self, name: str) -> None:
        self._started[name].set()
        if name == "consumer":
            self._crowd.bell.ring()

    async def _work(self) -> None:
        roles = self._settings["roles"]
        self._promoter = Promoter(self._opened["store"], self._publisher)
        self._due = self._promoter.expect if "scheduler" in roles else _ignore
        if "consumer" in roles:
            consumer = self._consumer()
            self._roles["consumer"], self._publisher.near = consumer, consumer.take
        if "scheduler" in roles:
            self._roles["scheduler"] = self._scheduler()
        if "api" in roles:
            self._roles["api"] = self._api()
        self._started = {name: asyncio.Event() for name in self._roles}
        working = [
            asyncio.create_task(role.run(self._stop, partial(self._begun, name)), name=name)
            for name, role in self._roles.items()
        ]
        started = list(self._started.values())
        all_started = asyncio.create_task(_all(started))
        await asyncio.wait([all_started, *working], return_when=asyncio.FIRST_COMPLETED)
        all_started.cancel()
        if not any(task.done() for task in working):
            self._say()
        # The API and the scheduler need a store only; whatever ends first takes the others with it.
        await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
        self._stop.asked.set()
        results = await asyncio.gather(*working, return_exceptions=True)
        for name, result in zip(self._roles, results, strict=True):
            if isinstance(result, TaskFlowError):
                worked = self._started[name].is_set()
                log.error("%s: %s", f"the {name} ended" if worked else f"cannot start the {name}", result)
                self._exit = self._exit or 1
            elif isinstance(result, BaseException):
                log.error("a role ended", exc_info=result)
                self._exit = BROKEN

    def _say(self) -> None:
        """It works."""
        api = self._roles.get("api")
        if self._seat:
            self._seat.started()
        else:
            banner.show(self._settings, self._revision, api.port if isinstance(api, ApiServer) else None)

    def _fatal(self, why: str) -> None:
        """Somebody must start this process anew: stop claiming, let runs end, exit 70."""
        log.critical("this process cannot go on: %s", why)
        self._exit = BROKEN
        self._stop.asked.set()

    @contextmanager
    def _signals(self) -> Any:
        loop = asyncio.get_running_loop()
        # A member is told by its parent, and by whoever tells all processes of a service: only the parent hurries it.
        ask = self._stop.asked.set if self._seat else self._stop.ask
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ask)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            hear_no_more()

    def _consumer(self) -> Consumer:
        settings, opened = self._settings, self._opened
        registry = Registry.load(settings["tasks.modules"])
        progress = ProgressWriter(opened["store"])
        effects = RunEffects(self._logs, progress, opened["store"], opened["artifacts"], settings["namespace"])
        slots = {
            RunsIn.ASYNC: settings["consumer.slots"],
            RunsIn.THREAD: settings["consumer.threads"],
            RunsIn.PROCESS: settings["consumer.processes"],
        }
        config = ConsumerConfig(
            lease=settings.lease,
            graceful=settings["consumer.graceful"],
            slots=slots,
            queues=settings["consumer.queues"],
        )
        return Consumer(
            config,
            store=opened["store"],
            broker=opened["broker"],
            events=opened["events"],
            publisher=self._publisher,
            registry=registry,
            progress=progress,
            fatal=self._fatal,
            due=self._due,
            alone=self._crowd.only,
            runners=lambda done, freed, caught_up: Runners(
                registry,
                slots,
                done,
                effects=effects,
                lease=settings.lease.fence,
                fatal=self._fatal,
                freed=freed,
                caught_up=caught_up,
            ),
        )

    def _scheduler(self) -> Scheduler:
        store, events = self._opened["store"], self._opened["events"]
        return Scheduler(
            self._promoter,
            Sweeper(store, self._publisher, events, period=self._settings.sweep, gap=self._settings.gap),
            Retainer(store, self._opened["artifacts"], keep=self._settings["retention.finished"]),
        )

    def _api(self) -> ApiServer:
        settings, opened = self._settings, self._opened
        deps = ApiDeps(
            settings=ApiSettings(
                version=banner.VERSION,
                namespace=settings["namespace"],
                rate=settings["api.rate_limit"],
                keys=settings["api.keys"],
                trusted_proxies=settings["api.trusted_proxies"],
            ),
            store=opened["store"],
            submitter=Submitter(opened["store"], self._publisher, self._due),
            catalog=Catalog(opened["store"], SystemClock()),
            publish=self._publisher.offer,
            events=opened["events"],
            cache=opened["cache"],
            limiter=opened["limiter"],
            artifacts=opened["artifacts"],
            pending=self._logs,
            worker=self._worker,
            stop=self._stop,
            health=self._health,
            ready=lambda: {name: role.ready() for name, role in self._roles.items()},
        )
        graceful = min(10.0, settings["consumer.graceful"])
        listeners = self._seat.listeners if self._seat else ()
        return ApiServer(
            create_app(deps), settings["api.host"], settings["api.port"], graceful=graceful, listeners=listeners
        )

    def _worker(self) -> str | None:
        consumer = self._roles.get("consumer")
        return consumer.worker.id if isinstance(consumer, Consumer) else None

    def _ready(self) -> dict[str, str | None]:
        if self._stop.asked.is_set():
            return dict.fromkeys(self._settings["roles"], "ends")
        return {
            name: self._roles[name].ready() if name in self._roles else "starts" for name in self._settings["roles"]
        }

    async def _answer(self) -> dict[str, str | None]:
        return self._ready()

    async def _health(self) -> Mapping[str, str | None]:
        found = await asyncio.gather(*(self._ping(port) for port in PORTS))
        return dict(zip(PORTS, found, strict=True))

    async def _ping(self, port: str) -> str | None:
        try:
            async with asyncio.timeout(PING):
                await self._opened[port].ping()
        except TimeoutError:
            return f"no answer within {PING:g} s"
        except Exception as error:
            return str(error) or type(error).__name__
        return None


def _ignore(_: float) -> None:
    """The scheduler is another process: it looks each 2 s."""


async def _all(events: Sequence[asyncio.Event]) -> None:
    for event in events:
        await event.wait()
