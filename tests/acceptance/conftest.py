"""A real TaskFlow process per test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import until_sync


class Process:
    """`taskflow dev` in a directory of its own, spoken to over HTTP."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")},
            "TASKFLOW_TASKS_MODULES": "taskflow.demo,taskflow.testing.tasks",
            "TASKFLOW_LOG_FORMAT": "json",
            **environment,
        }
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", timeout=90)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        return (self.directory / "output").read_text()

    def start(self) -> Process:
        """Start, and wait until it is ready."""
        self.launch()
        until_sync(self._answers, 30)
        return self

    def launch(self) -> None:
        """Start, and wait for nothing."""
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "taskflow",
                    "dev",
                    "--port",
                    str(self.port),
                    "--data-dir",
                    str(self.directory / "data"),
                ],
                cwd=self.directory,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def listens(self) -> bool:
        """Whether its port takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        assert self._process is not None
        return self._process.wait(seconds)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.http.close()

    def submit(self, task: str, payload: dict[str, Any] | None = None, **fields: Any) -> str:
        answer = self.http.post("/jobs", json={"task": task, "payload": payload or {}, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str, wait: int | None = None) -> dict[str, Any]:
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        answer = self.http.get(f"/jobs/{job_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.output
        try:
            return self.http.get("/health/ready").status_code == 200
        except httpx2.TransportError:
            return False


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A started process with a short lease."""
    running = Process(tmp_path, TASKFLOW_CONSUMER_LEASE="4").start()
    yield running
    running.close()


@pytest.fixture
def say(
    record_property: Callable[[str, object], None], capfd: pytest.CaptureFixture[str]
) -> Callable[[str, str], None]:
    """Report a figure, also where the test passes."""

    def tell(what: str, figure: str) -> None:
        record_property(what, figure)
        with capfd.disabled():
            sys.stdout.write(f"\n  {what}: {figure}\n")
            sys.stdout.flush()

    return tell
