"""Clients that submit all the time, as those behind a load balancer do."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

from taskflow.core.job import State
from tests.acceptance.cluster import Cluster
from tests.support import until_sync

PATIENCE = 30.0
BEHIND = 1.0
"""Seconds that a client may be behind its pace and make it up."""
FINISHED = "SELECT id::text, count(*) FROM {}.finished GROUP BY id"
ROWS = {
    "jobs": "SELECT left(to_jsonb(t)::text, 1500) FROM {}.jobs t LIMIT 20",
    "finished": "SELECT left(to_jsonb(t)::text, 1500) FROM {}.finished t WHERE state <> 'succeeded' LIMIT 20",
    "workers": "SELECT left(to_jsonb(t)::text, 500) FROM {}.workers t",
}


class Load:
    """Each client keeps its connection, and makes a new one where an answer was the last or a port refuses.

    Args:
        ports: where the API may be; a client goes to the next one where nobody listens.
        pause: seconds from one submit of a client to its next; what slow answers took of them is made up for.

    Attributes:
        accepted: ids of what was answered with 202.
        failures: everything else that came back, and what did not come back at all.
        refused: how often nobody listened, which costs a client nothing but another port.
        seconds: what each answer took.
    """

    def __init__(
        self,
        ports: Sequence[int],
        task: str = "demo.echo",
        payload: Any = None,
        *,
        clients: int = 8,
        pause: float = 0.0,
    ) -> None:
        self._ports = ports
        self._body = json.dumps({"task": task, "payload": payload or {}}).encode()
        self._pause = pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._submit, args=(number,)) for number in range(clients)]
        self.accepted: list[str] = []
        self.failures: list[str] = []
        self.refused = 0
        self.seconds: list[float] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _submit(self, turn: int) -> None:
        connection = self._connect(turn)
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic() - BEHIND)
            try:
                connection.connect() if connection.sock is None else None
            except ConnectionRefusedError:
                self.refused += 1
                turn += 1
                connection = self._connect(turn)
                self._over.wait(0.01)
                continue
            began = time.monotonic()
            try:
                connection.request("POST", "/api/v1/jobs", self._body, {"content-type": "application/json"})
                answer = connection.getresponse()
                told = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            self.seconds.append(time.monotonic() - began)
            if answer.status == 202:
                self.accepted.append(json.loads(told)["id"])
            else:
                self.failures.append(f"{answer.status}: {told.decode()}")
        connection.close()

    def _connect(self, turn: int) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._ports[turn % len(self._ports)], timeout=PATIENCE)


def reached(load: Load, enough: int) -> bool:
    """Whether so many were accepted."""
    return len(load.accepted) >= enough


def all_finish_once(cluster: Cluster, load: Load, within: float = 60) -> None:
    """Wait until what was accepted, no more and no less, has succeeded; say what is amiss where it does not."""
    try:
        until_sync(lambda: finished_once(cluster, load), within)
    except AssertionError:
        raise AssertionError("\n".join((*amiss(cluster, load), cluster.output[-4_000:]))) from None


def finished_once(cluster: Cluster, load: Load) -> bool:
    """Whether what was accepted, no more and no less, has succeeded."""
    return cluster.count(f"state = '{State.SUCCEEDED}'") == len(load.accepted) == cluster.count("true")


def amiss(cluster: Cluster, load: Load) -> list[str]:
    """Everything that keeps `finished_once` from being true."""
    schema, accepted = cluster.namespace, Counter(load.accepted)
    finished = Counter({str(row[0]): row[1] for row in cluster.sql(FINISHED.format(schema))})
    rows = [row[0] for table in ("jobs", "finished", "workers") for row in cluster.sql(ROWS[table].format(schema))]
    return [
        f"{len(load.accepted)} accepted, {finished.total()} finished",
        f"not finished: {sorted(accepted - finished)[:20]}",
        f"not accepted: {sorted(finished - accepted)[:20]}",
        *rows,
    ]
