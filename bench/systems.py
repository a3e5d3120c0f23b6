"""What is measured: the reference, and TaskFlow on the real four and embedded, each in processes of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final, Self, cast

import aiormq
import httpx2

from bench.load import post, send
from bench.reference import queue_of
from tests import servers
from tests.acceptance.cluster import Cluster, Node, asked
from tests.processes import family
from tests.support import until_sync
from tests.throwaway import free_ports

ROOT: Final = Path(__file__).parents[1]
SETTINGS: Final = {
    "TASKFLOW_TASKS_MODULES": "bench.tasks",
    # Jobs that take no time at all: as many at a time as a busy process can settle while it claims the next.
    "TASKFLOW_CONSUMER_SLOTS": "1000",
    "TASKFLOW_CONSUMER_LEASE": "30",
    "TASKFLOW_API_RATE_LIMIT": "none",
    "TASKFLOW_LOG_FORMAT": "json",
    "PYTHONPATH": str(ROOT),
}
PAYLOAD: Final = {
    "user_id": 123456,
    "email": "someone@example.com",
    "subject": "hello world",
    "body": "x" * 211,
}


BATCH: Final = 500
"""Jobs a request, where many are submitted at once."""


class Servers:
    """The servers of the tests: URLs, asked for only by who needs them."""

    @property
    def database(self) -> str:
        """Of PostgreSQL."""
        return servers.url_of("postgresql")

    @property
    def broker(self) -> str:
        """Of RabbitMQ."""
        return servers.url_of("rabbitmq")

    @property
    def cache(self) -> str:
        """Of Redis."""
        return servers.url_of("redis")


class System(ABC):
    """Jobs go in over HTTP, and leave the time of their end behind.

    Args:
        directory: an empty one, for whatever it writes.
        servers: those that it uses, if it does.

    Attributes:
        name: what the table calls it.
        durable: what outlives a crash before it counts: of what is accepted, and of what has run.
        prefix: what stands before `/jobs` in its paths.
        job: what is submitted.
        port: where it listens.
    """

    name: ClassVar[str]
    durable: ClassVar[str] = "row, message, result"
    prefix: ClassVar[str] = ""
    job: ClassVar[dict[str, object]] = {"task": "bench.noop", "payload": PAYLOAD}
    port: int

    def __init__(self, directory: Path, servers: Servers) -> None:
        self.directory = directory
        self.servers = servers

    def one(self, payload: dict[str, object] = {}) -> bytes:  # noqa: B006 - nobody writes to it
        """A request that submits a job, with these fields of its payload."""
        job = self.job | {"payload": cast("dict[str, object]", self.job["payload"]) | payload}
        return post(f"{self.prefix}/jobs", json.dumps(job).encode())

    def many(self) -> bytes:
        """A request that submits `BATCH` jobs."""
        return post(f"{self.prefix}/jobs/batch", json.dumps({"jobs": [self.job] * BATCH}).encode())

    def fill(self, jobs: int) -> None:
        """From nothing: accept so many jobs, whole batches of them, and run none."""
        self.take()
        send(self.port, self.many(), jobs // BATCH, accept=207, connections=4)

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """End its processes, and leave nothing behind."""

    @abstractmethod
    def take(self) -> None:
        """From now on accept jobs, and run none."""

    @abstractmethod
    def work(self) -> None:
        """From now on run what was accepted."""

    @abstractmethod
    def both(self) -> None:
        """From now on accept jobs and run them, in one process."""

    @abstractmethod
    def spans(self) -> list[tuple[int, float]]:
        """Of each finished job: the `user_id` of its payload, and when it ended, in nanoseconds since 1970."""

    @abstractmethod
    def finishes(self) -> list[float]:
        """When each finished job did: seconds since 1970, the first one first."""

    @abstractmethod
    def finished(self) -> int:
        """How many did; costs little."""


class Four(System):
    """TaskFlow on PostgreSQL, RabbitMQ, Redis and S3.

    Attributes:
        settings: more of them, for all processes.
        workers: how many there are where all roles are together.
    """

    name = "TaskFlow, real four"
    prefix = "/api/v1"
    settings: ClassVar[dict[str, str]] = {}
    workers: ClassVar[int] = 1

    def __enter__(self) -> Self:
        settings = SETTINGS | {f"TASKFLOW_{part}_URL": self.servers.cache for part in ("CACHE", "EVENTS", "LIMITER")}
        settings |= {"TASKFLOW_BROKER_URL": self.servers.broker, **self.settings}
        self._cluster = Cluster(self.directory, database=self.servers.database, **settings).__enter__()
        self.port = self._cluster.port
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.__exit__()

    def take(self) -> None:
        self.start("api")
        # A consumer that has been there has told the API which tasks there are.
        consumer = self.start("consumer")
        self._cluster.ready()
        consumer.stop()

    def work(self) -> None:
        self.start("consumer,scheduler")

    def both(self) -> None:
        self.start("api,consumer,scheduler")
        self.ready()

    def ready(self) -> None:
        """Wait until all of it works."""
        self._cluster.ready(self.workers)

    def start(self, roles: str) -> Node:
        """A process with these roles, which is not waited for."""
        return self._cluster.node(roles)

    def pids(self) -> list[int]:
        """All processes that run, children included."""
        return [pid for node in self._cluster.nodes if node.runs for pid in family(node.pid)]

    def spans(self) -> list[tuple[int, float]]:
        return spans_of(self.servers.database, f'"{self._cluster.namespace}".finished')

    def finishes(self) -> list[float]:
        rows = self._cluster.sql(
            f'SELECT extract(epoch FROM finished_at) FROM "{self._cluster.namespace}".finished ORDER BY finished_at'
        )
        return [float(row[0]) for row in rows]

    def finished(self) -> int:
        return self._cluster.count("state = 'succeeded'")


class Embedded(System):
    """TaskFlow in one process, without any server."""

    name = "TaskFlow, embedded"
    prefix = "/api/v1"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def take(self) -> None:
        self.both()
        self._queue("pause")

    def work(self) -> None:
        self._queue("resume")

    def both(self) -> None:
        self.port = free_ports(1)[0]
        self._process = spawn(
            ["-m", "taskflow", "dev", "--port", str(self.port), "--data-dir", "data"], self.directory, SETTINGS
        )
        until_sync(lambda: answers(f"http://127.0.0.1:{self.port}/api/v1/health/ready"), 30)

    def spans(self) -> list[tuple[int, float]]:
        rows = self._sql("SELECT json_extract(payload, '$.user_id'), finished_at FROM finished")
        return [(int(asked), at * 1e3) for asked, at in rows]

    def finishes(self) -> list[float]:
        return [row[0] / 1e6 for row in self._sql("SELECT finished_at FROM finished ORDER BY finished_at")]

    def finished(self) -> int:
        return int(self._sql("SELECT count(*) FROM finished")[0][0])

    def _sql(self, statement: str) -> list[tuple[float, ...]]:
        connection = sqlite3.connect(self.directory / "data" / "taskflow.db")
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def _queue(self, verb: str) -> None:
        url = f"http://127.0.0.1:{self.port}/api/v1/queues/default/{verb}"
        httpx2.post(url, json={}).raise_for_status()


class Reference(System):
    """What the parts can do (bench/reference.py)."""

    name = "reference hot path"

    def __enter__(self) -> Self:
        self._servers = Cluster(self.directory, database=self.servers.database, TASKFLOW_BROKER_URL=self.servers.broker)
        self._servers.sql(f'CREATE SCHEMA "{self._servers.namespace}"')
        self._processes: list[subprocess.Popen[bytes]] = []
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        asyncio.run(forget(self._servers.broker, queue_of(self._servers.namespace)))
        self._servers.__exit__()

    def take(self) -> None:
        self._start("api")

    def work(self) -> None:
        self._start("consumer")

    def both(self) -> None:
        self._start("api,consumer")

    def spans(self) -> list[tuple[int, float]]:
        return spans_of(self.servers.database, f'"{self._servers.namespace}".jobs')

    def finishes(self) -> list[float]:
        rows = self._servers.sql(
            f'SELECT extract(epoch FROM finished_at) FROM "{self._servers.namespace}".jobs '
            "WHERE state = 3 ORDER BY finished_at"
        )
        return [float(row[0]) for row in rows]

    def finished(self) -> int:
        return self._servers.count("state = 3", "jobs")

    def _start(self, roles: str) -> None:
        port = free_ports(1)[0]
        if "api" in roles:
            self.port = port
        servers = self._servers
        words = ["-m", "bench.reference", str(port), roles, servers.database, servers.namespace, servers.broker]
        self._processes.append(spawn(words, self.directory, {"PYTHONPATH": str(ROOT)}))
        until_sync(lambda: answers(f"http://127.0.0.1:{port}/"), 30)


def spans_of(database: str, table: str) -> list[tuple[int, float]]:
    """As `System.spans`, of a table; the end is the commit, where the server keeps the times of commits."""
    ended = "CASE WHEN current_setting('track_commit_timestamp')::bool THEN pg_xact_commit_timestamp(xmin) ELSE finished_at END"
    rows = asked(
        database,
        f"SELECT payload::jsonb ->> 'user_id', extract(epoch FROM {ended}) * 1e9 FROM {table} WHERE finished_at IS NOT NULL",
    )
    return [(int(row[0]), float(row[1])) for row in rows]


async def forget(broker: str, queue: str) -> None:
    """Delete a queue."""
    connection = await aiormq.connect(broker)
    try:
        await (await connection.channel()).queue_delete(queue)
    finally:
        await connection.close()


def spawn(
    words: list[str], directory: Path, environment: dict[str, str], program: str = sys.executable
) -> subprocess.Popen[bytes]:
    """A process of its own, in a group of its own, which writes to `output` in its directory."""
    with (directory / "output").open("ab") as output:
        return subprocess.Popen(
            [program, *words],
            cwd=directory,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def answers(url: str) -> bool:
    """Whether somebody does, and not with an error of the server's."""
    try:
        return httpx2.get(url).status_code < 500
    except httpx2.TransportError:
        return False
