"""A client behind a load balancer: one connection, and another API where nobody listens."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tests.faults.harness.ledger import Ledger

PATIENCE = 20.0
NOBODY = 0.05
WRONG = frozenset({400, 405, 408, 413, 415, 422, 429})
"""Answers that a request of ours does not deserve."""


class Reply(NamedTuple):
    """A status and a document, or the text where it is none."""

    status: int
    document: Any


class Http:
    """Used by one thread.

    Args:
        ports: of the APIs.
        over: ends waiting for one of them.
        fickle: go to the next one after each answer.
    """

    def __init__(self, ports: Sequence[int], ledger: Ledger, over: threading.Event, *, fickle: bool = False) -> None:
        self._ports, self._ledger, self._over, self._fickle = ports, ledger, over, fickle
        self._turn = 0
        self._connection = self._connect()
        self.slowest = 0.0

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply | None:
        """The answer; `None` where the request may have arrived and no answer came."""
        text = None if body is None else json.dumps(body)
        with_type = {"content-type": "application/json", **(headers or {})}
        if not self._reach():
            return None
        began = time.monotonic()
        try:
            self._connection.request(method, f"/api/v1{path}", text, with_type)
            answer = self._connection.getresponse()
            told = answer.read()
        except (OSError, http.client.HTTPException):
            self._next()
            self._ledger.count("no answer")
            return None
        if self._fickle:
            self._next()
        self.slowest = max(self.slowest, time.monotonic() - began)
        self._ledger.count(answer.status)
        if answer.status in WRONG or (answer.status >= 500 and answer.status != 503):
            self._ledger.surprise(f"{method} {path} was answered {answer.status}: {told[:200]!r}")
        try:
            return Reply(answer.status, json.loads(told))
        except ValueError:
            return Reply(answer.status, told.decode(errors="replace"))

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _reach(self) -> bool:
        """A connection that was accepted; a refusal costs nothing but another try."""
        while self._connection.sock is None:
            try:
                self._connection.connect()
            except OSError:
                self._next()
                if self._over.wait(NOBODY):
                    return False
        return True

    def _next(self) -> None:
        self._connection.close()
        self._turn += 1
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        port = self._ports[self._turn % len(self._ports)]
        return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)


@contextlib.contextmanager
def closing(client: Http) -> Any:
    """It, and closed afterwards."""
    try:
        yield client
    finally:
        client.close()
