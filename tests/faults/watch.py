"""Clients that submit, and askers that look, all the time while something is wrong; each writes down how it was answered."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

PATIENCE: Final = 30.0
LOOKED_AT: Final = ("/api/v1/health", "/api/v1/health/live", "/api/v1/tasks", "/api/v1/jobs?limit=1")
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request was answered.

    Attributes:
        status: 0 where no answer came at all.
        seconds: until it was there.
        told: its Retry-After.
    """

    asked: str
    status: int
    seconds: float
    told: str | None
    text: str


class Watch:
    """Threads, each on a connection that it keeps while it can.

    Args:
        port: of the API.
        pause: seconds between two submits of a client.

    Attributes:
        answers: to submits, in the order of their coming.
        looks: to everything else.
    """

    def __init__(
        self,
        port: int,
        task: str = "test.noop",
        payload: dict[str, Any] | None = None,
        *,
        clients: int = 4,
        pause: float = 0.02,
        looked_at: Sequence[str] = LOOKED_AT,
    ) -> None:
        self._port = port
        self._body = json.dumps({"task": task, "payload": payload or {}}).encode()
        self._pause = pause
        self._over = threading.Event()
        self.answers: list[Answer] = []
        self.looks: list[Answer] = []
        self._threads = [threading.Thread(target=self._submit) for _ in range(clients)]
        self._threads += [threading.Thread(target=self._look, args=(path,)) for path in looked_at]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def accepted(self) -> list[str]:
        """Ids of jobs that were promised to run."""
        return [str(json.loads(answer.text)["id"]) for answer in list(self.answers) if answer.status == 202]

    @property
    def refused(self) -> list[Answer]:
        """Submits that were not."""
        return [answer for answer in list(self.answers) if answer.status != 202]

    @property
    def named(self) -> set[str]:
        """Ids of jobs of which nobody knew whether they were stored, and which were named for that."""
        return {found for answer in self.refused for found in _ID.findall(answer.text)}

    def slowest(self, count: int = 1) -> float:
        """Seconds of the slowest submit, or of the one that so many were not faster than."""
        return sorted(answer.seconds for answer in list(self.answers))[-count]

    def _submit(self) -> None:
        connection = self._connection()
        while not self._over.wait(self._pause):
            self.answers.append(_asked(connection, "POST", "/api/v1/jobs", self._body))
        connection.close()

    def _look(self, path: str) -> None:
        connection = self._connection()
        while not self._over.wait(0.1):
            self.looks.append(_asked(connection, "GET", path))
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)


def _asked(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> Answer:
    began = time.monotonic()
    try:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        text = answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return Answer(path, 0, time.monotonic() - began, None, repr(error))
    return Answer(path, answer.status, time.monotonic() - began, answer.headers.get("retry-after"), text)
