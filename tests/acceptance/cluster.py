"""TaskFlow on the four real servers, its roles in one process or apart, in a namespace of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import asyncpg
import httpx2
import redis

from taskflow.wiring import database
from tests import servers
from tests.support import until_sync
from tests.throwaway import free_ports


def bare(**settings: str) -> dict[str, str]:
    """An environment with these settings of TaskFlow and no other; tasks for tests, and logs for machines."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")},
        "TASKFLOW_TASKS_MODULES": "taskflow.demo,taskflow.testing.tasks",
        "TASKFLOW_LOG_FORMAT": "json",
        **settings,
    }


def asked(database: str, statement: str) -> list[Any]:
    """What a PostgreSQL answers."""

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(database)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    return asyncio.run(ask())


class Node:
    """One process.

    Attributes:
        roles: what it does.
        environment: what it finds there when it is started next.
    """

    def __init__(self, roles: str, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self.roles, self.environment = roles, environment
        self._command, self._directory = command, directory
        self.process: subprocess.Popen[bytes] | None = None
        self._said = 0

    def start(self) -> Self:
        """Start it, and wait for nothing."""
        self._said = len(self.output)
        with (self._directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def started(self) -> bool:
        """Whether its roles work: a process says so once."""
        return f"roles {', '.join(self.roles.split(','))} " in self.output[self._said :]

    @property
    def output(self) -> str:
        """What it said, over all its starts."""
        path = self._directory / "output"
        return path.read_text() if path.exists() else ""

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """Without a word."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """And wait for nothing."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 40) -> int:
        """Until it has ended; the exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self, seconds: float = 40) -> int:
        """Politely; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)


class Cluster:
    """Processes that share four servers, spoken to over HTTP.

    Args:
        directory: where they run and write what they say.
        database: a PostgreSQL of the test's own.
        environment: settings of all of them.
    """

    def __init__(self, directory: Path, *, database: str = "", **environment: str) -> None:
        self.directory = directory
        self.namespace = f"t{token_hex(5)}"
        self.database = database or servers.url_of("postgresql")
        self.broker = environment.get("TASKFLOW_BROKER_URL") or servers.url_of("rabbitmq")
        self.redis = servers.url_of("redis")
        self.s3 = servers.s3()
        [self.port] = free_ports(1)
        self.environment = {
            **bare(),
            "TASKFLOW_NAMESPACE": self.namespace,
            "TASKFLOW_STORE_URL": f"{self.database}{'&' if '?' in self.database else '?'}schema={self.namespace}",
            "TASKFLOW_BROKER_URL": self.broker,
            "TASKFLOW_CACHE_URL": self.redis,
            "TASKFLOW_EVENTS_URL": self.redis,
            "TASKFLOW_LIMITER_URL": self.redis,
            "TASKFLOW_ARTIFACTS_URL": self.s3.url,
            "TASKFLOW_ARTIFACTS_ACCESS_KEY": self.s3.access_key,
            "TASKFLOW_ARTIFACTS_SECRET_KEY": self.s3.secret_key,
            "TASKFLOW_API_RATE_LIMIT": "none",
            "TASKFLOW_CONSUMER_LEASE": "4",
            **environment,
        }
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", timeout=90)
        self.nodes: list[Node] = []

    def __enter__(self) -> Self:
        self.sql(f'CREATE SCHEMA IF NOT EXISTS "{self.namespace}"')
        database.upgrade(self.environment["TASKFLOW_STORE_URL"])
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            if node.runs:
                node.kill()
        self.http.close()
        self._forget()

    def taskflow(self, *arguments: str) -> str:
        """Run a command to its end; what it wrote."""
        done = subprocess.run(
            [sys.executable, "-m", "taskflow", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def node(self, roles: str, *, port: int | None = None, **environment: str) -> Node:
        """Start a process with some roles; an API on a port of its own where one is given."""
        return self.place(roles, port=port, **environment).start()

    def place(self, roles: str, *, port: int | None = None, **environment: str) -> Node:
        """A process with some roles, to be started later."""
        directory = self.directory / f"node{len(self.nodes)}"
        directory.mkdir()
        command = [sys.executable, "-m", "taskflow", "run", "--roles", roles]
        if "api" in roles:
            command += ["--port", str(port or self.port)]
        node = Node(roles, command, {**self.environment, **environment}, directory)
        self.nodes.append(node)
        return node

    def ready(self, workers: int = 1) -> Self:
        """Wait until the API answers and so many workers are alive."""
        until_sync(lambda: self._status("/health/ready") == 200, 40)
        until_sync(lambda: len(self.alive()) == workers, 40)
        return self

    def alive(self) -> list[dict[str, Any]]:
        """Workers that are alive."""
        items: list[dict[str, Any]] = self.http.get("/workers").json()["items"]
        return [worker for worker in items if worker["state"] == "alive"]

    def submit(self, task: str, payload: dict[str, Any] | None = None, count: int = 1, **fields: Any) -> list[str]:
        """Submit jobs, all alike, in batches; their ids."""
        ids: list[str] = []
        while len(ids) < count:
            ids += self.submit_all([{"task": task, "payload": payload or {}, **fields}] * min(500, count - len(ids)))
        return ids

    def submit_all(self, jobs: list[dict[str, Any]]) -> list[str]:
        """Submit jobs in one batch; their ids."""
        answer = self.http.post("/jobs/batch", json={"jobs": jobs})
        assert answer.status_code == 207, answer.text
        return [item["job"]["id"] for item in answer.json()["items"]]

    def job(self, job_id: str, wait: int | None = None) -> dict[str, Any]:
        """A job's document."""
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        document: dict[str, Any] = self.http.get(f"/jobs/{job_id}", headers=headers).json()
        return document

    def count(self, where: str, table: str = "finished") -> int:
        """Rows of a table."""
        return int(self.sql(f'SELECT count(*) FROM "{self.namespace}".{table} WHERE {where}')[0][0])

    def sql(self, statement: str) -> list[Any]:
        """What the database answers, asked directly."""
        return asked(self.database, statement)

    def in_redis(self, pattern: str = "*") -> list[bytes]:
        """Keys of this namespace in Redis."""
        with redis.Redis.from_url(self.redis) as client:
            return list(client.scan_iter(f"{self.namespace}:{pattern}"))

    @property
    def output(self) -> str:
        """What the processes said."""
        return "\n".join(node.output for node in self.nodes)

    def _status(self, path: str) -> int:
        assert all(node.process is None or node.process.poll() is None for node in self.nodes), self.output
        try:
            return self.http.get(path).status_code
        except httpx2.TransportError:
            return 0

    def _forget(self) -> None:
        until_sync(self._dropped, 30)
        with redis.Redis.from_url(self.redis) as client:
            for key in client.scan_iter(f"{self.namespace}:*"):
                client.delete(key)
        if self.broker.startswith("amqp"):
            asyncio.run(self._forget_queues())

    def _dropped(self) -> bool:
        try:
            self.sql(f'DROP SCHEMA IF EXISTS "{self.namespace}" CASCADE')
        except asyncpg.DeadlockDetectedError:
            return False  # members of a parent that was killed are ending their work
        return True

    async def _forget_queues(self) -> None:
        import aiormq  # noqa: PLC0415

        connection = await aiormq.connect(self.broker)
        try:
            channel = await connection.channel()
            for lane in ("high", "normal", "low"):
                await channel.queue_delete(f"{self.namespace}.default.{lane}.v1")
            await channel.queue_delete(f"{self.namespace}.dead.v1")
        finally:
            await connection.close()
