"""What TaskFlow must not need more of, on the real four: `python -m bench.bounds [--only NAME]`. Fails where it does.

processes: CPU a job of two processes over that of one; jobs a second of two over those of one, where each job takes 5 ms of
CPU. idle: CPU of all roles in one process, and queries a second of each alone. memory: of an API and of a consumer after
100,000 jobs, over what Python has once it has imported the same modules; and how it has grown since half of them. ready:
seconds until a process answers, over those that its imports take. limiter: submits a second with the rate limiter over
those without. large: jobs of 1 MiB each way. due: 100,000 jobs that fall due in one second. long: 1,000 jobs at a time in
one worker, of 30 s each.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, TypeVar

from bench.load import send
from bench.measures import through, until_finished
from bench.systems import BATCH, PAYLOAD, Four, Servers, answers
from tests import servers
from tests.processes import cpu, rss
from tests.support import until_sync
from tests.throwaway import ThrowawayPostgres, free_ports

MIB: Final = 1 << 20
IMPORTS: Final = (
    "import taskflow.cli, taskflow.cli.admin, taskflow.wiring.runtime, taskflow.adapters.sql, taskflow.adapters.rabbitmq,"
    "taskflow.adapters.redis, taskflow.adapters.obstore, taskflow.adapters.pyrate.redis"
)
"""What a process on the real four needs to be one."""


SPIN: Final[dict[str, object]] = {"task": "bench.spin", "payload": PAYLOAD}
S = TypeVar("S", bound=Four)


class Bound(NamedTuple):
    """A figure beside what it may be."""

    what: str
    value: float
    limit: float
    unit: str = ""
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is within."""
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        limit = "" if math.isinf(self.limit) else f"{'at least' if self.least else 'at most'} {self.limit:g}{self.unit}"
        return f"{self.what:52}{self.value:12,.2f}{self.unit:6}{limit:20}{'' if self.holds else 'DOES NOT HOLD'}"


class OwnDatabase(Servers):
    """The servers of the tests, but for PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def database(self) -> str:
        return self._url


@contextmanager
def opened(kind: type[S], of: Servers | None = None) -> Iterator[S]:
    """A system that nobody has started yet."""
    with tempfile.TemporaryDirectory() as directory, kind(Path(directory), of or Servers()) as system:
        yield system


@contextmanager
def started(kind: type[S]) -> Iterator[S]:
    """A system with all roles in one process, or in each."""
    with opened(kind) as system:
        system.both()
        yield system


def used(system: Four) -> float:
    """Seconds of CPU of all its processes."""
    return sum(map(cpu, system.pids()))


async def nothing(_scope: object, _receive: object, send: Callable[[dict[str, object]], Awaitable[None]]) -> None:
    """An app that answers, and does nothing else."""
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


def questions(server: ThrowawayPostgres) -> int:
    """How many statements a server has written down."""
    return len(re.findall(r"LOG:  (?:execute|statement)\b", (server.directory / "output").read_text(errors="replace")))


@contextmanager
def imported() -> Iterator[int]:
    """Bytes of a process that has imported what all others here have, and does nothing."""
    words = [sys.executable, "-c", f"{IMPORTS}; print('there', flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield rss(process.pid)
        process.communicate(b"\n")


class Two(Four):
    """Two of them."""

    settings: ClassVar = {"TASKFLOW_PROCESSES": "2"}
    workers = 2


class SpinningOne(Four):
    """5 ms of CPU a job."""

    job: ClassVar = SPIN


class SpinningTwo(Two):
    """The same."""

    job: ClassVar = SPIN


class Limited(Four):
    """With a rate limit that nobody meets."""

    settings: ClassVar = {"TASKFLOW_API_RATE_LIMIT": "1000000/second"}


class Echoing(Four):
    """Each result is as large as its payload, 1 MiB."""

    job: ClassVar = {"task": "bench.echo", "payload": {"data": "x" * (MIB - 100)}}


class Due(Four):
    """Jobs that fall due together."""

    def __init__(self, directory: Path, servers: Servers) -> None:
        super().__init__(directory, servers)
        self.at = datetime.now(UTC) + timedelta(seconds=60)
        self.job = {**Four.job, "run_at": self.at.isoformat()}  # type: ignore[misc]


class Long(Four):
    """A thousand at a time."""

    settings: ClassVar = {"TASKFLOW_CONSUMER_SLOTS": "1000"}
    job: ClassVar = {"task": "bench.sleep", "payload": {"seconds": 30}}


def processes(rounds: int) -> Iterator[Bound]:
    """One and two of them."""
    plain, spun = 20_000, 1_600
    took: dict[type[Four], list[float]] = {}
    for _ in range(rounds):
        for kind in (Four, Two):
            with started(kind) as system:
                through(system, plain // 10)  # what comes once is no part of it
                before = used(system)
                through(system, plain)
                took.setdefault(kind, []).append((used(system) - before) / plain)
                assert system.finished() == plain + plain // 10, "lost or doubled"
        for kind in (SpinningOne, SpinningTwo):
            with started(kind) as system:
                through(system, spun // 10)
                took.setdefault(kind, []).append(through(system, spun))
    found = {kind: statistics.median(each) for kind, each in took.items()}
    yield Bound("two processes: CPU a job over that of one", found[Two] / found[Four], 1.15)
    yield Bound("two processes: 5 ms jobs over those of one", found[SpinningTwo] / found[SpinningOne], 1.6, least=True)


def idle(_: int, seconds: float = 30.0) -> Iterator[Bound]:
    """Nothing is submitted. A server of its own writes down what it is asked. Where an uvicorn that does nothing takes as much
    CPU, it is the machine's way to count."""
    port = free_ports(1)[0]
    empty = ["-m", "uvicorn", "bench.bounds:nothing", "--loop", "uvloop", "--port", str(port)]
    with subprocess.Popen([sys.executable, *empty], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as uvicorn:
        try:
            until_sync(lambda: answers(f"http://127.0.0.1:{port}/"), 30)
            used_before = cpu(uvicorn.pid)
            time.sleep(seconds)
            share = 100 * (cpu(uvicorn.pid) - used_before) / seconds
        finally:
            uvicorn.terminate()
    yield Bound("idle, an uvicorn with an empty app: CPU", share, math.inf, "%")
    with ThrowawayPostgres("log_statement=all") as server:
        for roles in ("api,consumer,scheduler", "api", "consumer", "scheduler"):
            with opened(Four, OwnDatabase(server.url)) as system:
                system.start(roles)
                time.sleep(5)  # what a start brings about is no part of it
                begun, asked_before, used_before = time.monotonic(), questions(server), used(system)
                time.sleep(seconds)
                length = time.monotonic() - begun
                if "," in roles:
                    yield Bound("idle, all roles: CPU", 100 * (used(system) - used_before) / length, 1.0, "%")
                else:
                    yield Bound(f"idle, {roles}: queries", (questions(server) - asked_before) / length, 1.0, "/s")


def memory(_: int, jobs: int = 100_000) -> Iterator[Bound]:
    """Of an API and a consumer, each a process of its own."""
    with imported() as floor, opened(Four) as system:
        api, consumer = system.start("api"), system.start("consumer,scheduler")
        system.ready()
        half: dict[str, int] = {}
        for part in (1, 2):
            send(system.port, system.one(), jobs // 2, accept=202)
            until_finished(system, part * jobs // 2)
            found = {"API": rss(api.pid), "consumer": rss(consumer.pid)}
            half = half or found
        for name, size in found.items():
            yield Bound(f"{name}: memory over its imports, {jobs:,} jobs", (size - floor) / MIB, 40, " MiB")
            yield Bound(f"{name}: its growth over the second half", (size - half[name]) / MIB, 2, " MiB")


def ready(rounds: int) -> Iterator[Bound]:
    """Of an API, whose schema is up to date."""
    imports: list[float] = []
    ready: list[float] = []
    with opened(Four) as system:
        for _ in range(max(5, rounds)):
            begun = time.monotonic()
            subprocess.run([sys.executable, "-c", IMPORTS], check=True)
            imports.append(time.monotonic() - begun)
            begun = time.monotonic()
            node = system.start("api")
            until_sync(lambda: answers(f"http://127.0.0.1:{system.port}/api/v1/health/ready"), 30)
            ready.append(time.monotonic() - begun)
            node.kill()
    yield Bound("seconds until a process is ready", statistics.median(ready), math.inf, " s")
    yield Bound("the same over those of its imports", statistics.median(ready) / statistics.median(imports), 2.0)


def limiter(rounds: int) -> Iterator[Bound]:
    """Counted in Redis, as by default."""
    rates: dict[type[Four], list[float]] = {}
    for _ in range(rounds):
        for kind in (Four, Limited):
            with opened(kind) as system:
                system.take()
                send(system.port, system.one(), 1_000, accept=202)
                rates.setdefault(kind, []).append(20_000 / send(system.port, system.one(), 20_000, accept=202))
    found = {kind: statistics.median(each) for kind, each in rates.items()}
    yield Bound("submits with the limiter over those without", found[Limited] / found[Four], 0.85, least=True)


def large(_: int, jobs: int = 400) -> Iterator[Bound]:
    """One after the other on eight connections."""
    with started(Echoing) as system:
        begun = time.time()
        send(system.port, system.one(), jobs, accept=202, connections=8)
        until_finished(system, jobs)
        took = system.finishes()[-1] - begun
        yield Bound("payloads and results of 1 MiB: jobs", jobs / took, 20, "/s", least=True)
        yield Bound("memory after that", max(rss(pid) for pid in system.pids()) / MIB, 400, " MiB")


def due(_: int, jobs: int = 100_000) -> Iterator[Bound]:
    """All at once."""
    with started(Due) as system:
        send(system.port, system.many(), jobs // BATCH, accept=207, connections=4)
        assert datetime.now(UTC) < system.at, "submitting took longer than a minute"
        until_finished(system, jobs)
        finishes = system.finishes()
        first, last = finishes[0] - system.at.timestamp(), finishes[-1] - system.at.timestamp()
        yield Bound("100,000 due in a second: the first is late by", first, 2, " s")
        yield Bound("and jobs a second from then on", jobs / last, 3_000, "/s", least=True)


def long(_: int, jobs: int = 1_000) -> Iterator[Bound]:
    """In one worker, which goes on with its beats."""
    with started(Long) as system:
        before, begun = used(system), time.time()
        send(system.port, system.one(), jobs, accept=202)
        until_finished(system, jobs)
        took = system.finishes()[-1] - begun
        yield Bound("1,000 jobs of 30 s at a time: seconds for all", took, 33, " s")
        yield Bound("CPU meanwhile", 100 * (used(system) - before) / took, 10, "%")


BOUNDS: Final[dict[str, Callable[[int], Iterator[Bound]]]] = {
    each.__name__: each for each in (processes, idle, memory, ready, limiter, large, due, long)
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.bounds", description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of what is compared (default: %(default)s)")
    parser.add_argument("--only", choices=BOUNDS, help="one part of it")
    wanted = parser.parse_args()
    broken = 0
    try:
        for name, look in BOUNDS.items():
            if wanted.only in {None, name}:
                for bound in look(wanted.rounds):
                    print(bound, flush=True)
                    broken += not bound.holds
    finally:
        servers.close()
    if broken:
        sys.exit(f"{broken} bounds do not hold")


if __name__ == "__main__":
    main()
