"""A system on servers of its own, each behind a proxy: everything here may be stopped, cut and killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx2

from taskflow.adapters.sql.postgres.url import POOL_SIZE
from taskflow.wiring import database
from tests.acceptance.cluster import asked, bare
from tests.faults.harness.work import VARIABLE as EFFECTS
from tests.faults.harness.zygote import Zygote
from tests.processes import descriptors, rss
from tests.support import until_sync
from tests.throwaway import ThrowawayPostgres, ThrowawayRabbitMQ, ThrowawayRedis, ThrowawayWeed, free_ports
from tests.throwaway.proxy import ProxyThread, through
from tests.throwaway.server import ThrowawayServer

__all__ = ["LEASE", "SCHEMA", "Node", "Stage", "descriptors", "rss"]

ROOT: Final = Path(__file__).parents[3]
SCHEMA: Final = "chaos"
LEASE: Final = 4


@dataclass
class Node:
    """A process that is started again whenever it has ended.

    Attributes:
        name: what reports call it.
        roles: what it does.
        spared: whether nobody may kill it.
        more: environment for its next start.
        doomed: the only end that a signal leaves it, `None` where it was sent none.
        ends: ends that nobody caused from outside.
    """

    name: str
    roles: str
    port: int
    directory: Path
    spared: bool = False
    more: dict[str, str] = field(default_factory=dict)
    pid: int | None = None
    doomed: int | None = None
    ends: list[str] = field(default_factory=list)
    said: int = 0

    @property
    def output(self) -> str:
        """What it said, over all its starts."""
        path = self.directory / "output"
        return path.read_text() if path.exists() else ""


class Stage:
    """Servers, proxies and processes.

    Args:
        nodes: roles by name; `spared` ones end with a `*`.
        directory: where all of it lives.
        pool_size: most connections of a process to PostgreSQL.
    """

    def __init__(
        self, directory: Path, nodes: Mapping[str, str], *, pool_size: int = POOL_SIZE, **settings: str
    ) -> None:
        self.directory, self._pool_size, self._settings = directory, pool_size, settings
        self.effects = directory / "effects"
        self.servers: dict[str, ThrowawayServer] = {
            "postgresql": ThrowawayPostgres("max_connections=200"),
            "rabbitmq": ThrowawayRabbitMQ(),
            "redis": ThrowawayRedis(),
            "s3": ThrowawayWeed(),
        }
        self.proxies: dict[str, ProxyThread] = {}
        self.refused_starts = 0
        ports = iter(free_ports(len(nodes)))
        self.nodes = [
            Node(name.rstrip("*"), roles, next(ports), directory / name.rstrip("*"), spared=name.endswith("*"))
            for name, roles in nodes.items()
        ]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.zygote = stack.enter_context(Zygote())
            for name, server in self.servers.items():
                stack.enter_context(server)
                self.proxies[name] = stack.enter_context(ProxyThread.before(server.url))
            self.environment = self._environment()
            self.sql(f'CREATE SCHEMA "{SCHEMA}"')
            database.upgrade(f"{self.database}?schema={SCHEMA}")
            stack.callback(self._end)
            for node in self.nodes:
                node.directory.mkdir()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def database(self) -> str:
        """PostgreSQL itself, past its proxy."""
        return self.servers["postgresql"].url

    @property
    def peers(self) -> dict[int, str]:
        """Whom a connection of a process leads to, by its remote port."""
        return {proxy.port: name for name, proxy in self.proxies.items()}

    @property
    def apis(self) -> list[int]:
        """Ports of the API processes."""
        return [node.port for node in self.nodes if "api" in node.roles]

    def start(self, node: Node) -> None:
        """Start a process, and wait for nothing."""
        arguments = ["run", "--roles", node.roles, *(("--port", str(node.port)) if "api" in node.roles else ())]
        node.pid = self.zygote.start(arguments, node.directory, {**self.environment, **node.more})
        node.doomed = None
        node.said = len(node.output)

    def code(self, node: Node) -> int | None:
        """How it ended, `None` while it runs."""
        return None if node.pid is None else self.zygote.code(node.pid)

    def signal(self, node: Node, number: signal.Signals) -> None:
        """To a process that runs, or has just ended."""
        assert node.pid is not None
        try:
            os.kill(node.pid, number)
        except ProcessLookupError:
            pass

    def revive(self) -> None:
        """Start what has ended, and remember how."""
        for node in self.nodes:
            code = self.code(node)
            if node.pid is not None and code is not None:
                if code != node.doomed and not self._could_not_start(node, code) and not self._never_began(node, code):
                    node.ends.append(f"ended with {code}: {node.output[-600:]}")
                self.start(node)

    def _could_not_start(self, node: Node, code: int) -> bool:
        """While the store is away nobody starts: it says so, and whoever looks after processes starts it again."""
        could_not = code == 1 and "cannot start" in node.output[node.said :]
        self.refused_starts += could_not
        return could_not

    def _never_began(self, node: Node, code: int) -> bool:
        """Told to end before it could listen to that, while its interpreter started."""
        return node.doomed == 0 and code == -signal.SIGTERM and len(node.output) == node.said

    def ready(self, seconds: float = 60) -> Self:
        """Wait until every API answers and all consumers are alive."""
        consumers = sum("consumer" in node.roles for node in self.nodes)
        alive = f"SELECT count(*) FROM \"{SCHEMA}\".workers WHERE state = 'alive'"
        try:
            for port in self.apis:
                until_sync(lambda port=port: self.get(port, "/health/ready") == 200, seconds)  # type: ignore[misc]
            until_sync(lambda: self.sql(alive)[0][0] == consumers, seconds)
        except AssertionError as error:
            for node in self.nodes:
                error.add_note(f"{node.name}, ended with {self.code(node)}: {node.output[-600:]}")
            raise
        return self

    def get(self, port: int, path: str) -> int:
        """The status of an answer, 0 where there is none."""
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/api/v1{path}", timeout=5).status_code
        except httpx2.TransportError:
            return 0

    def sql(self, statement: str) -> list[Any]:
        """What the database answers, asked directly."""
        return asked(self.database, statement)

    def live(self) -> int:
        """Jobs that are not over."""
        return int(self.sql(f"SELECT count(*) FROM \"{SCHEMA}\".jobs WHERE state <> 'failed'")[0][0])

    def _environment(self) -> dict[str, str]:
        weed = self.servers["s3"]
        assert isinstance(weed, ThrowawayWeed)

        urls = {name: through(server.url, self.proxies[name]) for name, server in self.servers.items()}
        return {
            **bare(),
            "PYTHONPATH": str(ROOT),
            "TASKFLOW_TASKS_MODULES": "tests.faults.harness.work",
            "TASKFLOW_NAMESPACE": SCHEMA,
            "TASKFLOW_STORE_URL": f"{urls['postgresql']}?schema={SCHEMA}&pool_size={self._pool_size}",
            "TASKFLOW_BROKER_URL": urls["rabbitmq"],
            "TASKFLOW_CACHE_URL": urls["redis"],
            "TASKFLOW_EVENTS_URL": urls["redis"],
            "TASKFLOW_LIMITER_URL": urls["redis"],
            "TASKFLOW_ARTIFACTS_URL": urls["s3"],
            "TASKFLOW_ARTIFACTS_ACCESS_KEY": weed.access_key,
            "TASKFLOW_ARTIFACTS_SECRET_KEY": weed.secret_key,
            "TASKFLOW_API_RATE_LIMIT": "100000/second",
            "TASKFLOW_CONSUMER_LEASE": str(LEASE),
            "TASKFLOW_CONSUMER_GRACEFUL": "2",
            EFFECTS: str(self.effects),
            **self._settings,
        }

    def _end(self) -> None:
        for node in self.nodes:
            if node.pid is not None and self.code(node) is None:
                self.signal(node, signal.SIGKILL)
                self.zygote.wait(node.pid)
