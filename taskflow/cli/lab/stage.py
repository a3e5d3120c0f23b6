"""What labs share: a TaskFlow in a directory of its own, and somebody who tells what happens to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from taskflow.client import Client, JobDocument, ProblemError, Unreachable
from taskflow.core.errors import TaskFlowError

Found = TypeVar("Found")
PATIENCE: Final = 60.0
"""Seconds that anything may take before it is taken for broken."""
LOOK: Final = 0.05
"""Seconds between two looks."""


class NotAsPromised(TaskFlowError):
    """A guarantee did not hold, or the lab could not be run to its end."""


class Narrator:
    """Tells a lab, step by step.

    Args:
        title: what it shows.
    """

    def __init__(self, title: str) -> None:
        self._steps = 0
        print(f"{title}\n", flush=True)

    def step(self, text: str) -> None:
        """What is done now."""
        self._steps += 1
        print(f"{self._steps}. {text}", flush=True)

    def seen(self, text: str) -> None:
        """What came of it."""
        for line in text.splitlines():
            print(f"   {line}", flush=True)

    def promised(self, text: str, *, holds: bool) -> None:
        """What must hold.

        Raises:
            NotAsPromised: it does not.
        """
        if not holds:
            raise NotAsPromised(f"NOT as promised: {text}")
        self.seen(text)

    def lesson(self, text: str) -> None:
        """What it was about."""
        print(f"\n{text}", flush=True)


class System:
    """A process with all roles.

    Args:
        directory: where it runs; what it says goes to a file in it.
        command: `dev` or `run`, with flags.
        settings: environment variables; no other of TaskFlow's is taken over.
    """

    def __init__(self, directory: Path, command: Sequence[str], settings: Mapping[str, str]) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.api = Client(self.url)
        self.output = directory / "output"
        self._command = [sys.executable, "-m", "taskflow", *command, "--port", str(port)]
        self._directory = directory
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")},
            "TASKFLOW_LOG_FORMAT": "console",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            NotAsPromised: it ends, or is not ready in time; says what it said.
        """
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for the lab, which ends it.
                start_new_session=True,
            )
        self.until("it is ready", self._ready)

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def said(self, text: str) -> str | None:
        """The first line of its output with this text."""
        return next((line for line in self.output.read_text().splitlines() if text in line), None)

    def answers(self) -> bool:
        """Whether its port takes connections."""
        try:
            self.api.get("/health/live")
        except Unreachable:
            return False
        return True

    def broker(self) -> str | None:
        """What is wrong with its broker."""
        wrong: str | None = self.api.get("/health")["components"]["broker"].get("detail")
        return wrong

    def count(self, jobs: Sequence[JobDocument]) -> Counter[str]:
        """How many of these jobs are in which state."""
        wanted = {job["id"] for job in jobs}
        return Counter(job["state"] for job in self.api.all_jobs(limit=200) if job["id"] in wanted)

    def over(self, jobs: Sequence[JobDocument]) -> Counter[str]:
        """The states of these jobs once nothing of them is left to do."""
        ends = ("succeeded", "failed", "cancelled", "expired")

        def states() -> Counter[str] | None:
            found = self.count(jobs)
            return found if sum(found[state] for state in ends) == len(jobs) else None

        return self.until("all jobs are over", states)

    def until(self, what: str, fact: Callable[[], Found | None]) -> Found:
        """Wait for a fact; its value.

        Raises:
            NotAsPromised: the process ends, or the fact does not come.
        """
        end = time.monotonic() + PATIENCE
        while not (found := fact()):
            if self._process is not None and self._process.poll() is not None:
                raise NotAsPromised(f"the process ended:\n{self.output.read_text()}")
            if time.monotonic() > end:
                raise NotAsPromised(
                    f"{PATIENCE:g} s passed, and not yet: {what}. What the process said:\n{self.output.read_text()}"
                )
            time.sleep(LOOK)
        return found

    def _ready(self) -> bool:
        try:
            self.api.get("/health/ready")
        except (Unreachable, ProblemError):
            return False
        return True


@contextmanager
def system(command: Sequence[str], **settings: str) -> Iterator[System]:
    """One that is not started yet, in a directory that goes with it."""
    with tempfile.TemporaryDirectory(prefix="taskflow-lab-") as directory:
        made = System(Path(directory), command, settings)
        try:
            yield made
        finally:
            made.api.close()
            made.kill()


def accepted(items: Sequence[Mapping[str, Any]]) -> list[JobDocument]:
    """The jobs of a batch, each of which must have been taken."""
    refused = [item for item in items if item["status"] != 202]
    if refused:
        raise NotAsPromised(f"NOT as promised: {len(refused)} of {len(items)} were refused, the first: {refused[0]}")
    return [item["job"] for item in items]


def shown(states: Mapping[str, int]) -> str:
    """How many jobs are in which state."""
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
