"""Many clients with one key at once, over several API processes: each key is one job, and no answer is a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.core.job import RunsIn
from taskflow.ports.store import TaskInfo
from tests.acceptance.cluster import Cluster
from tests.figures import Say
from tests.support import FULL, until_sync
from tests.throwaway import free_ports
from tests.throwaway.server import listens

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
KEYS, CLIENTS, PROCESSES = (1_000, 200, 4) if FULL else (20, 50, 2)
OTHERS = 10
"""One client in so many says something else under the key of the others."""


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[Cluster, list[int]]]:
    """API processes that know a task which nobody runs."""
    with Cluster(tmp_path) as cluster:
        others = free_ports(PROCESSES - 1)
        for port in (cluster.port, *others):
            cluster.node("api", port=port)
        asyncio.run(announced(cluster.environment["TASKFLOW_STORE_URL"]))
        for port in (cluster.port, *others):
            until_sync(partial(listens, port), 40)
        yield cluster, [cluster.port, *others]


async def announced(url: str) -> None:
    """Say that there is a task."""
    info = TaskInfo(
        name="storm", queue="default", runs_in=RunsIn.ASYNC, schema="{}", timeout=60, max_attempts=3, description=""
    )
    async with PostgresStore.from_url(url) as store:
        await store.publish_tasks([info])


class Client:
    """A connection that is kept, without a library in the way: a storm is to hit the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, key: str, n: int) -> tuple[int, dict[str, str]]:
        """Submit a job under a key; the status and the answer."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        body = json.dumps({"task": "storm", "payload": {"n": n}})
        self._writer.write(
            f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        [length] = [int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length:")]
        answer = json.loads(await self._reader.readexactly(length))
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), answer

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def storm(ports: list[int]) -> tuple[Counter[int], int, list[str]]:
    """All clients submit under each key together, some of them something else.

    Returns:
        The statuses; how many jobs there were answers about; and what was answered wrongly.
    """
    clients = [Client(ports[number % len(ports)]) for number in range(CLIENTS)]
    says = [2 if number % OTHERS == 0 else 1 for number in range(CLIENTS)]
    statuses: Counter[int] = Counter()
    jobs: set[str] = set()
    wrong: list[str] = []
    for number in range(KEYS):
        posts = (client.post(f"key{number}", word) for client, word in zip(clients, says, strict=True))
        answers = list(zip(says, await asyncio.gather(*posts), strict=True))
        statuses.update(status for _, (status, _) in answers)
        [won] = [word for word, (status, _) in answers if status == 202]
        wrong += [
            f"key{number}: {status}"
            for word, (status, _) in answers
            if status not in ({200, 202} if word == won else {422})
        ]
        ids = {answer["id"] for _, (status, answer) in answers if status in {200, 202}}
        wrong += [f"key{number}: {ids}"] if len(ids) != 1 else []
        jobs |= ids
    for client in clients:
        client.close()
    return statuses, len(jobs), wrong


def test_a_storm_of_keys_is_one_job_a_key(ports: tuple[Cluster, list[int]], say: Say) -> None:
    """Whoever says the same as the first is answered with its job, whoever says something else with 422."""
    cluster, listening = ports
    statuses, jobs, wrong = asyncio.run(storm(listening))
    say(f"{KEYS} keys x {CLIENTS} clients over {PROCESSES} processes", f"{dict(sorted(statuses.items()))}")
    assert wrong == []
    assert statuses.total() == KEYS * CLIENTS
    assert set(statuses) == {200, 202, 422}
    assert statuses[202] == KEYS == jobs == cluster.count("true", "jobs")
