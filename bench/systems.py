"""What is measured: the reference, and TaskFlow on the real four and embedded, each in processes of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final, Self

import aiormq
import httpx2

from bench.reference import SLOTS, queue_of
from tests.acceptance.cluster import Cluster
from tests.support import until_sync
from tests.throwaway import free_ports

ROOT: Final = Path(__file__).parents[1]
SETTINGS: Final = {
    "TASKFLOW_TASKS_MODULES": "bench.tasks",
    "TASKFLOW_CONSUMER_SLOTS": str(SLOTS),
    "TASKFLOW_CONSUMER_LEASE": "30",
    "TASKFLOW_API_RATE_LIMIT": "none",
    "TASKFLOW_LOG_FORMAT": "json",
    "PYTHONPATH": str(ROOT),
}
PAYLOAD: Final = {
    "user_id": 123456,
    "email": "someone@example.com",
    "subject": "hello world",
    "body": "x" * 180,
}


class System(ABC):
    """Jobs go in over HTTP, and leave the time of their end behind.

    Args:
        directory: an empty one, for whatever it writes.

    Attributes:
        name: what the table calls it.
        prefix: what stands before `/jobs` in its paths.
        port: where it listens.
    """

    name: str
    prefix: str
    port: int

    def __init__(self, directory: Path) -> None:
        self.directory = directory

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
    def finishes(self) -> list[float]:
        """When each finished job did: seconds since 1970, the first one first."""

    @abstractmethod
    def finished(self) -> int:
        """How many did; costs little."""


class Four(System):
    """TaskFlow on PostgreSQL, RabbitMQ, Redis and S3."""

    name = "TaskFlow, real four"
    prefix = "/api/v1"

    def __enter__(self) -> Self:
        self._cluster = Cluster(self.directory, **SETTINGS).__enter__()
        self.port = self._cluster.port
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.__exit__()

    def take(self) -> None:
        self._cluster.node("api")
        # A consumer that has been there has told the API which tasks there are.
        consumer = self._cluster.node("consumer")
        self._cluster.ready()
        consumer.stop()

    def work(self) -> None:
        self._cluster.node("consumer,scheduler")

    def both(self) -> None:
        self._cluster.node("api,consumer,scheduler")
        self._cluster.ready()

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

    def finishes(self) -> list[float]:
        return [row[0] / 1e6 for row in self._sql("SELECT finished_at FROM finished ORDER BY finished_at")]

    def finished(self) -> int:
        return int(self._sql("SELECT count(*) FROM finished")[0][0])

    def _sql(self, statement: str) -> list[tuple[float]]:
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
    prefix = ""

    def __enter__(self) -> Self:
        self._servers = Cluster(self.directory)
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


async def forget(broker: str, queue: str) -> None:
    """Delete a queue."""
    connection = await aiormq.connect(broker)
    try:
        await (await connection.channel()).queue_delete(queue)
    finally:
        await connection.close()


def spawn(words: list[str], directory: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A Python process of its own, which writes to `output` in its directory."""
    with (directory / "output").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=directory,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )


def answers(url: str) -> bool:
    """Whether somebody does, and not with an error of the server's."""
    try:
        return httpx2.get(url).status_code < 500
    except httpx2.TransportError:
        return False
