"""The containers without an engine: their commands, environment and health checks as they stand, as processes of this machine.
Only what a machine decides is another: where the servers are and who may use them, directories, ports, and the interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Final, Self

import httpx2
import pytest

from taskflow.core.durations import seconds
from tests.acceptance.cluster import Cluster, Node
from tests.compose.stack import Image, Service, services
from tests.support import until_sync
from tests.throwaway import free_ports

MODULE: Final = """
from taskflow import Context, task


@task("greet")
async def greet(ctx: Context, name: str) -> str:
    ctx.log.info("greeting", name=name)
    return f"Hello, {name}!"
"""
SERVERS: Final = tuple(f"TASKFLOW_{port}_" for port in ("STORE", "BROKER", "CACHE", "EVENTS", "LIMITER", "ARTIFACTS"))


class Container(Node):
    """A service of ours.

    Args:
        machine: the directory in which volumes and mounted directories lie.
        port: of an API.
        decided: settings that this machine decides, too.
    """

    def __init__(self, name: str, service: Service, machine: Path, port: int, **decided: str) -> None:
        image, self._service = Image.read(), service
        mounts = {
            target: str(machine / source) for source, target, *_ in (each.split(":") for each in service["volumes"])
        }
        said = image.environment | service["environment"]
        environment = {
            **{key: mounts.get(value, value) for key, value in said.items()},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TASKFLOW_MONITOR_ADDRESS": f"127.0.0.1:{free_ports(1)[0]}",
            "TASKFLOW_API_PORT": str(port),
            **decided,
        }
        (machine / name).mkdir()
        super().__init__(name, [*image.entrypoint, *service.get("command", image.command)], environment, machine / name)
        self._stop_signal = signal.Signals[image.stop_signal]

    @property
    def healthy(self) -> bool:
        """What its health check finds now."""
        check = self._service["healthcheck"]
        kind, *command = check["test"]
        assert kind == "CMD"
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, timeout=seconds(check["timeout"]))
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def ready(self) -> None:
        """Wait until its health check passes."""

        def passes() -> bool:
            assert self.runs, self.output
            return self.healthy

        until_sync(passes, 40)

    def leave(self) -> int:
        """Stop it as an engine does; the exit code."""
        self.signal(self._stop_signal)
        return self.wait(seconds(self._service["stop_grace_period"]))


class Stack(Cluster):
    """compose.yaml, with servers of the tests in the places of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        told = services("compose", TASKFLOW_TASKS_MODULES="taskflow.demo,greetings")
        order = TopologicalSorter({name: service.get("depends_on", {}) for name, service in told.items()})
        self.containers = {
            name: self._container(name, told[name]) for name in order.static_order() if "build" in told[name]
        }
        self.nodes += self.containers.values()

    def __enter__(self) -> Self:
        # Whatever else it needs is made by the containers.
        self.sql(f'CREATE SCHEMA "{self.namespace}"')
        return self

    def _container(self, name: str, service: Service) -> Container:
        decided = {key: self.environment[key] for key in service["environment"] if key.startswith(SERVERS)}
        return Container(name, service, self.directory, self.port, TASKFLOW_NAMESPACE=self.namespace, **decided)


@pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
def test_the_stack_runs_a_job(tmp_path: Path) -> None:
    """From nothing: the schema is made, the roles become healthy, a task of the user's runs and its log is kept; all end well."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "greetings.py").write_text(MODULE)
    with Stack(tmp_path) as stack:
        migrate, *roles = stack.containers.values()
        assert {role.roles for role in roles} == {"api", "consumer", "scheduler"}
        # What the others wait for.
        assert migrate.start().wait() == 0, migrate.output
        for role in roles:
            assert not role.healthy
            role.start()
        for role in roles:
            role.ready()
        [job] = stack.submit("greet", {"name": "Ada"})
        document = stack.job(job, wait=20)
        assert document["state"] == "succeeded", document
        assert document["result"] == "Hello, Ada!"
        assert "greeting" in until_sync(lambda: kept(stack.http, job), 20)
        consumer = stack.containers["consumer"]
        consumer.signal(signal.SIGSTOP)
        assert not consumer.healthy
        consumer.signal(signal.SIGCONT)
        consumer.ready()
        for role in roles:
            assert role.leave() == 0, role.output
            assert not role.healthy


@pytest.mark.adapter("sqlite", "memory", "file")
def test_the_single_container_survives_a_kill(tmp_path: Path) -> None:
    """Jobs that it had accepted run after the next start, and each succeeds once."""
    [(name, service)] = services("single").items()
    [port] = free_ports(1)
    container = Container(name, service, tmp_path, port)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60) as http:
        try:
            container.start().ready()
            jobs = [{"task": "demo.sleep", "payload": {"seconds": 0.5}}] * 150
            answer = http.post("/jobs/batch", json={"jobs": jobs})
            assert answer.status_code == 207
            ids = [item["job"]["id"] for item in answer.json()["items"]]
            until_sync(lambda: any(looked_up(http, job)["state"] == "running" for job in ids[:5]))
            container.kill()
            assert not container.healthy
            container.start().ready()
            for job in ids:
                document = looked_up(http, job, wait=30)
                assert document["state"] == "succeeded"
                assert Counter(attempt["outcome"] for attempt in document["attempts"])["succeeded"] == 1
            assert container.leave() == 0, container.output
        finally:
            if container.runs:
                container.kill()


def looked_up(http: httpx2.Client, job: str, wait: int = 0) -> dict[str, Any]:
    """A job's document, at its end or after so many seconds."""
    document: dict[str, Any] = http.get(f"/jobs/{job}", headers={"Prefer": f"wait={wait}"}).json()
    return document


def kept(http: httpx2.Client, job: str) -> str:
    """Its log, once it is stored."""
    answer = http.get(f"/logs/{job}")
    return answer.text if answer.headers.get("taskflow-logs") == "complete" else ""
