"""Callers go away in the middle of a request: each takes a connection of the pool with it, until none is left.

Seen in sqlalchemy#6652, #8145 and #12077. Right: a connection comes back whatever happens to whoever used it; no transaction
stays open; the next caller is served as ever.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskflow.adapters.sql import PostgresStore
from tests.adapters.postgres_house import url_of
from tests.bug_report import Report
from tests.bugs.behind import Behind
from tests.support import FULL, until_sync

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis")
ABORTED = 20_000 if FULL else 600
CANCELLED = 3_000 if FULL else 300
NOISE = 0.8


def aborted(port: int, chance: random.Random) -> None:
    """Ask for something, and reset the connection within 50 ms; later where more of them wait than a port keeps."""
    body = json.dumps({"task": "test.noop", "payload": {}}).encode()
    asked = [
        b"POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body),
        b"GET /api/v1/jobs?limit=10 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /api/v1/queues HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /api/v1/jobs/00000000-0000-7000-8000-000000000000 HTTP/1.1\r\nprefer: wait=5\r\nhost: x\r\n\r\n",
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(chance.choice(asked))
        threading.Event().wait(chance.uniform(0, 0.05))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def open_transactions(behind: Behind) -> int:
    """Sessions of the process that do something, or that have begun something and do nothing."""
    [row] = behind.cluster.sql(
        "SELECT count(*) AS busy FROM pg_stat_activity WHERE state <> 'idle' "
        f"AND application_name LIKE '{behind.cluster.namespace}%' AND state_change < clock_timestamp() - interval '1 s'"
    )
    return int(row["busy"])


def test_clients_hang_up(behind: Behind, report: Report) -> None:
    """At any moment of any request."""
    cluster, chance = behind.cluster, random.Random(32)
    with ThreadPoolExecutor(32) as clients:
        list(clients.map(lambda _: aborted(cluster.port, chance), range(ABORTED)))
    asked = time.monotonic()
    answer = cluster.http.post("/jobs", json={"task": "test.noop"})
    assert (answer.status_code, time.monotonic() - asked < 0.2 + NOISE) == (202, True)
    until_sync(lambda: open_transactions(behind) == 0, 20)
    report("B32", scale=f"{ABORTED} aborted requests", faults=ABORTED)


async def test_callers_are_cancelled(report: Report, schema: str) -> None:
    """At any moment of a call: while they wait for a connection, make one, use one, or give it back."""
    chance, cancelled = random.Random(32), 0
    async with PostgresStore.from_url(url_of(schema, pool_size="3")) as store:

        async def called() -> None:
            async with asyncio.timeout(chance.uniform(0, 0.02)):
                await store._db.run(lambda connection: connection.fetch("SELECT pg_sleep(0.005)"), transaction=True)

        for _ in range(CANCELLED // 30):
            results = await asyncio.gather(*(called() for _ in range(30)), return_exceptions=True)
            cancelled += sum(isinstance(result, TimeoutError) for result in results)
        pool = store._db._pool
        assert pool is not None
        assert await asyncio.gather(*(store.queue_names() for _ in range(3))) == [await store.queue_names()] * 3
        assert pool.get_idle_size() == pool.get_size()
    report("B32", scale=f"{CANCELLED} calls on 3 connections", faults=cancelled)
