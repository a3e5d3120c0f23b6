"""TaskFlow as its users meet it, in each of its shapes: what a test says of one holds for all of them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import httpx2
import pytest

from tests.acceptance.cluster import Cluster, Node, bare
from tests.support import FULL, until_sync
from tests.throwaway import free_ports
from tests.throwaway.server import listens


class System:
    """One TaskFlow, of one process or more. Where a role is named, the process that has it is meant.

    Attributes:
        directory: where it writes, and finds modules that a test wrote there.
        port: of its API.
        nodes: its processes.
    """

    def __init__(self, directory: Path, port: int, nodes: Sequence[Node]) -> None:
        self.directory, self.port, self.nodes = directory, port, nodes
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=90)
        self.configure(PYTHONPATH=str(directory))

    def configure(self, **environment: str) -> None:
        """Change the environment that its processes are started in next."""
        for node in self.nodes:
            node.environment.update(environment)

    def start(self) -> Self:
        """Start what does not run, and wait until jobs can be submitted and run."""
        self.launch()
        until_sync(self._ready, 40)
        return self

    def launch(self) -> None:
        """Start what does not run, and wait for nothing."""
        for node in self.nodes:
            if not node.runs:
                node.start()

    def kill(self, role: str = "") -> None:
        """End one process or all of them without a word."""
        for node in self.nodes:
            if role in node.roles:
                node.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it to every process."""
        for node in self.nodes:
            node.signal(number)

    def wait(self, role: str = "") -> set[int]:
        """Until one process has ended or all of them; their exit codes."""
        return {node.wait() for node in self.nodes if role in node.roles}

    def close(self) -> None:
        """End it."""
        for node in self.nodes:
            if node.runs:
                node.kill()
        self.http.close()

    @property
    def worker(self) -> Node:
        """The process that runs jobs."""
        return next(node for node in self.nodes if "consumer" in node.roles)

    @property
    def output(self) -> str:
        """What its processes said."""
        return "\n".join(node.output for node in self.nodes)

    def listens(self) -> bool:
        """Whether its port takes connections."""
        return listens(self.port)

    def submit(self, task: str, payload: dict[str, Any] | None = None, **fields: Any) -> str:
        """Submit a job; its id."""
        answer = self.http.post("/jobs", json={"task": task, "payload": payload or {}, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str, wait: int | None = None) -> dict[str, Any]:
        """A job's document, at its end or after so many seconds."""
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        answer = self.http.get(f"/jobs/{job_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def _ready(self) -> bool:
        assert all(node.runs for node in self.nodes), self.output
        try:
            return all(node.started for node in self.nodes) and self.http.get("/health/ready").status_code == 200
        except httpx2.TransportError:
            return False


ROLES: Final = "api,consumer,scheduler"
ALONE: Final = ("sqlite", "memory", "file")
"""Adapters of the embedded mode."""
FOUR: Final = ("postgresql", "rabbitmq", "redis", "s3")
PROCESSES: Final = {"together": [ROLES], "apart": ROLES.split(",")}
"""What each process does, by the shape of a system on the four servers."""


@contextmanager
def embedded(directory: Path, **settings: str) -> Iterator[System]:
    """`taskflow dev`: one process, and nothing but a directory."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "taskflow", "dev", "--port", str(port), "--data-dir", str(directory / "data")]
    system = System(directory, port, [Node(ROLES, command, bare(**settings), directory)])
    try:
        yield system
    finally:
        system.close()


@contextmanager
def on_servers(processes: Sequence[str], directory: Path, **settings: str) -> Iterator[System]:
    """`taskflow run` on PostgreSQL, RabbitMQ, Redis and S3: a process for each member of `processes`, which names its roles."""
    # As dev does where it stops.
    with Cluster(directory, **{"TASKFLOW_CONSUMER_GRACEFUL": "2"} | settings) as cluster:
        system = System(directory, cluster.port, [cluster.place(roles) for roles in processes])
        try:
            yield system
        finally:
            system.close()


SHAPES: Final[dict[str, Callable[..., AbstractContextManager[System]]]] = {
    "embedded": embedded,
    **{shape: partial(on_servers, roles) for shape, roles in PROCESSES.items()},
}
SHOWN: Final = list(SHAPES) if FULL else ["embedded"]
"""All of them in full; else the one that is started soonest."""


def in_shapes(shapes: Iterable[str], *adapters: str) -> list[object]:
    """Parameters for a fixture: a test counts for the adapters of its shape, and for those that are named."""
    return [
        pytest.param(shape, marks=pytest.mark.adapter(*sorted({*adapters, *(FOUR if shape in PROCESSES else ALONE)})))
        for shape in shapes
    ]
