"""The peers as systems: their programs in `apps`, each run in an environment, a database and a virtual host of its own."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path
from secrets import token_hex
from typing import ClassVar, Final, Self

from bench.peers.environments import python_of
from bench.peers.servers import OwnServers
from bench.systems import PAYLOAD, System, answers, spans_of, spawn
from tests.acceptance.cluster import asked
from tests.support import until_sync
from tests.throwaway import free_ports

APPS: Final = Path(__file__).parent / "apps"
NUMBER: Final = struct.Struct("q")


class Peer(System):
    """One of the others.

    A job counts as finished when its task has run, which is before a peer that stores results has done so.

    Attributes:
        environment: which packages it needs.
        api: the words after `uvicorn` that serve its `POST /jobs`.
        filler: the words after `python` that submit jobs, but for their count.
        worker: the words after the environment's `bin/` that run jobs.
        variables: more that its programs find in their environment.
    """

    job: ClassVar = {"type": "noop", "payload": PAYLOAD}
    environment: ClassVar[str]
    api: ClassVar[str] = ""
    filler: ClassVar[tuple[str, ...]] = ()
    worker: ClassVar[tuple[str, ...]]
    variables: ClassVar[dict[str, str]] = {}

    def __init__(self, directory: Path, servers: OwnServers) -> None:
        super().__init__(directory, servers)
        self._servers = servers
        self._python = python_of(self.environment)
        self._place = f"peer{token_hex(4)}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._marks = directory / "marks"

    def __enter__(self) -> Self:
        self._marks.mkdir()
        asked(self._servers.database, f"CREATE DATABASE {self._place}")
        self._servers.add_host(self._place)
        root, _, _ = self._servers.database.rpartition("/")
        self._variables = {
            "PEER_POSTGRES": f"{root}/{self._place}",
            "PEER_RABBITMQ": f"{self._servers.broker}{self._place}",
            "PEER_REDIS": self._servers.cache,
            "MARKS": str(self._marks),
            "PAYLOAD": json.dumps(PAYLOAD),
            "PYTHONPATH": str(APPS),
            **self.variables,
        }
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
        asked(self._servers.database, f"DROP DATABASE {self._place} WITH (FORCE)")
        self._servers.delete_host(self._place)

    def take(self) -> None:
        self.port = free_ports(1)[0]
        words = ("uvicorn", self.api, "--port", str(self.port), "--no-access-log", "--log-level", "warning")
        self._run(*words, "--loop", "uvloop", "--http", "httptools")
        until_sync(lambda: answers(f"http://127.0.0.1:{self.port}/"), 30)

    def fill(self, jobs: int) -> None:
        """Submit so many at once, without an API, and wait until they are."""
        subprocess.run(
            [str(self._python), str(APPS / self.filler[0]), *self.filler[1:], str(jobs)],
            env={**os.environ, **self._variables},
            check=True,
        )

    def work(self) -> None:
        self._run(*self.worker)

    def both(self) -> None:
        """An API and a worker, each a process: none of them has both in one."""
        self.work()
        self.take()

    def spans(self) -> list[tuple[int, float]]:
        raise NotImplementedError(f"{self.name} keeps no rows")

    def finishes(self) -> list[float]:
        times: list[float] = []
        for path in self._marks.iterdir():
            data = path.read_bytes()
            [count] = NUMBER.unpack_from(data)
            times += [time / 1e9 for [time] in NUMBER.iter_unpack(data[NUMBER.size : NUMBER.size * (count + 1)])]
        return sorted(times)

    def finished(self) -> int:
        count = 0
        for path in self._marks.iterdir():
            with path.open("rb") as file:
                count += NUMBER.unpack(file.read(NUMBER.size).ljust(NUMBER.size, b"\0"))[0]
        return count

    def _run(self, program: str, *words: str) -> None:
        found = str(self._python.parent / program)
        self._processes.append(spawn(list(words), self.directory, self._variables, found))


class Seed(Peer):
    """The design that this project began with."""

    name = "the seed's design"
    durable = "row, message, result"
    environment = "seed"
    api = "seed_app:app"
    worker = ("python", str(APPS / "seed_worker.py"))

    def spans(self) -> list[tuple[int, float]]:
        return spans_of(self._variables["PEER_POSTGRES"], "seed_tasks")


class Celery(Peer):
    """One pool process."""

    name = "Celery"
    durable = "message"
    environment = "celery"
    api = "celery_http:app"
    filler = ("celery_app.py",)
    worker = (
        *("celery", "-A", "celery_app", "worker", "-l", "WARNING", "-P", "prefork", "-c", "1"),
        *("--without-gossip", "--without-mingle"),
    )


class CelerySolo(Celery):
    """In the worker's own process, one job at a time."""

    name = "Celery, solo"
    worker = (
        *("celery", "-A", "celery_app", "worker", "-l", "WARNING", "-P", "solo"),
        *("--without-gossip", "--without-mingle"),
    )


class Dramatiq(Peer):
    """One process, 8 threads."""

    name = "Dramatiq"
    durable = "message"
    environment = "dramatiq"
    filler = ("dramatiq_app.py",)
    worker = ("dramatiq", "dramatiq_app", "-p", "1", "-t", "8")


class Taskiq(Peer):
    """One process, 100 jobs at a time; keeps no results."""

    name = "Taskiq"
    durable = "message"
    environment = "taskiq"
    api = "taskiq_http:app"
    filler = ("taskiq_app.py",)
    worker = (
        *("taskiq", "worker", "taskiq_app:broker", "-w", "1", "--max-async-tasks", "100", "--max-prefetch", "100"),
        *("--ack-type", "when_saved", "--log-level", "WARNING"),
    )


class TaskiqResults(Taskiq):
    """The same, each result a committed row."""

    name = "Taskiq, results"
    durable = "message, result"
    variables: ClassVar = {"RESULT": "pg"}


class Procrastinate(Peer):
    """One process, 20 jobs at a time."""

    name = "Procrastinate"
    durable = "row, state"
    environment = "procrastinate"
    filler = ("procrastinate_app.py",)
    worker = ("procrastinate", "--app=procrastinate_app.app", "worker", "-q", "bench", "-c", "20")


class PgQueuer(Peer):
    """One process, batches of 100."""

    name = "PgQueuer"
    durable = "row, state"
    environment = "pgqueuer"
    filler = ("pgqueuer_app.py", "fill")
    worker = ("python", str(APPS / "pgqueuer_app.py"), "work")
