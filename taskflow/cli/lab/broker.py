"""The lab that loses the broker."""

from __future__ import annotations

import socket
import time
from typing import Final
from urllib.parse import SplitResult, urlsplit

from taskflow.cli.lab.line import Line
from taskflow.cli.lab.stage import Narrator, System, accepted, shown, system
from taskflow.client import JobDocument
from taskflow.core.errors import TaskFlowError

PORT: Final = 5672
SLOTS: Final = 4
"""So few that most jobs are carried by the broker: a worker that is alone starts what it has slots for by itself."""
JOB: Final = {"task": "demo.sleep", "payload": {"seconds": 0.05}}


class NoBroker(TaskFlowError):
    """There is none to lose."""


def play(broker_url: str, namespace: str, jobs: int) -> None:
    """Cut the line to a RabbitMQ while jobs come in.

    Args:
        broker_url: of the RabbitMQ.
        namespace: prefix of the queues.
        jobs: how many before, during and after.

    Raises:
        NoBroker: nobody answers there, or it speaks TLS.
        NotAsPromised: a job was refused or lost.
    """
    url = _found(broker_url)
    tell = Narrator("What becomes of jobs while the broker is away?")
    with Line(url.hostname or "", url.port or PORT) as line:
        login, at, _ = url.netloc.rpartition("@")
        settings = {
            "TASKFLOW_BROKER_URL": url._replace(netloc=f"{login}{at}127.0.0.1:{line.port}").geturl(),
            "TASKFLOW_NAMESPACE": namespace,
            "TASKFLOW_TASKS_MODULES": "taskflow.demo",
            "TASKFLOW_API_RATE_LIMIT": "none",
            "TASKFLOW_CONSUMER_SLOTS": str(SLOTS),
            "TASKFLOW_CONSUMER_GRACEFUL": "2",
        }
        with system(["run", "--migrate"], **settings) as running:
            _play(tell, running, line, jobs)


def _play(tell: Narrator, running: System, line: Line, jobs: int) -> None:
    tell.step("Start `taskflow run`, with a line to RabbitMQ that can be cut.")
    running.start()
    tell.seen(f"pid {running.pid}, {running.url}; broker: {running.broker() or 'ok'}")

    tell.step(f"Submit {jobs} jobs. There are {SLOTS} slots; what waits for one is carried by RabbitMQ.")
    before = accepted(running.api.submit_many([JOB] * jobs))
    tell.seen(shown(running.over(before)))

    tell.step("Cut the line.")
    line.cut()
    tell.seen(f"GET /health says, broker: {running.until('the broker is missed', running.broker)}")

    tell.step(f"Submit {jobs} more, one after the other, while it is away.")
    during, slowest = _one_by_one(running, jobs)
    tell.seen(
        f"{len(during)} accepted, the slowest answer after {slowest * 1e3:.0f} ms: a job is a row, and the row is there"
    )
    states = running.over(during)
    tell.promised(f"{shown(states)}: the worker draws them from the table", holds=states["succeeded"] == jobs)
    tell.promised("and the broker is still away", holds=running.broker() is not None)

    tell.step("Mend the line.")
    line.mend()
    running.until("the broker is back", lambda: running.broker() is None)
    tell.seen("broker: ok; nobody had to start anything anew")

    tell.step(f"Submit {jobs} more.")
    after = accepted(running.api.submit_many([JOB] * jobs))
    everything = [*before, *during, *after]
    states = running.over(everything)
    tell.promised(f"{shown(states)}, of {len(everything)} accepted", holds=states["succeeded"] == len(everything))
    listed = [job["epoch"] for job in running.api.all_jobs(limit=200)]
    tell.promised("each was begun once", holds=listed == [1] * len(everything))
    tell.lesson(
        "RabbitMQ carries hints that a job may run, and is fast at it. What is true stands in the table: where no hint comes,\n"
        "workers look there by themselves, and where one comes twice, the row can be claimed once."
    )


def _one_by_one(running: System, jobs: int) -> tuple[list[JobDocument], float]:
    taken, slowest = [], 0.0
    for _ in range(jobs):
        begun = time.monotonic()
        taken.append(running.api.submit(JOB))
        slowest = max(slowest, time.monotonic() - begun)
    return taken, slowest


def _found(text: str) -> SplitResult:
    url = urlsplit(text)
    if url.scheme != "amqp" or not url.hostname:
        raise NoBroker(
            f"--broker-url has the scheme {url.scheme!r}: a line is cut that is not encrypted, use amqp://host/"
        )
    try:
        socket.create_connection((url.hostname, url.port or PORT), timeout=5).close()
    except OSError as error:
        raise NoBroker(
            f"no RabbitMQ at {url.hostname}:{url.port or PORT} ({error}): start one, or name another with --broker-url"
        ) from None
    return url
