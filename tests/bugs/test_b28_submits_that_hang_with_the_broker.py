"""A publish waits for a connection that is away, or for a broker that has blocked it: the request that waits for the publish
hangs until it is back.

Seen in aio-pika#636 and #556, faststream#1579. Right: a submit is answered when its row is committed, whatever the broker
does; afterwards nothing of the outage is left, neither sockets nor tickets.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.system import ROLES
from tests.bug_report import Report
from tests.bugs.behind import Behind
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayRabbitMQ
from tests.throwaway.proxy import Proxy

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis")
SUBMITS = 200
PROMISED = 2.0
NOISE = 3.0
"""Seconds more on a busy machine, where two hundred clients start at once."""


def sockets(pid: int) -> int:
    """What a process holds open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def at_once(cluster: Cluster) -> list[str]:
    """Submit many at the same time; each is accepted in time."""

    def submit(number: int) -> tuple[int, float, str]:
        asked = time.monotonic()
        answer = http.post("/jobs", json={"task": "demo.echo", "payload": {"n": number}})
        return answer.status_code, time.monotonic() - asked, answer.json().get("id", "")

    limits = httpx2.Limits(max_connections=50)
    with (
        httpx2.Client(base_url=cluster.http.base_url, timeout=60, limits=limits) as http,
        ThreadPoolExecutor(50) as clients,
    ):
        answers = list(clients.map(submit, range(SUBMITS)))
    assert {code for code, _, _ in answers} == {202}
    assert max(seconds for _, seconds, _ in answers) < PROMISED + NOISE
    return [job_id for _, _, job_id in answers]


@pytest.mark.parametrize("how", ["away", "silent"])
def test_the_broker_does_not_answer(behind: Behind, report: Report, how: str) -> None:
    """It is not there, or it takes everything and says nothing."""
    cluster, broker = behind.cluster, behind.broker
    until_sync(lambda: cluster.http.get("/health/ready").status_code == 200, 30)
    before = sockets(behind.node.pid)
    fault = "refused" if how == "away" else "frozen requests"
    faults = broker.faults[fault]
    if how == "away":
        behind.part(broker)
    else:
        broker.do(Proxy.freeze)
    ids = at_once(cluster)
    until_sync(lambda: broker.faults[fault] > faults, 20)
    behind.join(broker)
    broker.do(Proxy.thaw)
    until_sync(lambda: behind.succeeded(ids), 30)
    until_sync(lambda: cluster.http.get("/health/ready").status_code == 200, 30)
    until_sync(lambda: sockets(behind.node.pid) <= before + 10, 30)
    report("B28", scale=f"{SUBMITS} submits, RabbitMQ {how}", faults=broker.faults[fault] - faults)


if FULL:

    def test_the_broker_is_out_of_memory(own_rabbitmq: ThrowawayRabbitMQ, report: Report, cluster: Cluster) -> None:
        """It blocks whoever publishes."""
        cluster.environment["TASKFLOW_BROKER_URL"] = own_rabbitmq.url
        node = cluster.node(ROLES)
        cluster.ready()
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "absolute", "1")
        first: list[str] = []

        def blocked() -> bool:
            # It blocks a connection when that publishes, and not before.
            first.extend(cluster.submit("demo.echo"))
            return "alarm" in cluster.http.get("/health").text

        until_sync(blocked, 20)
        before = sockets(node.pid)
        ids = at_once(cluster)
        until_sync(lambda: cluster.count("state = 'succeeded'") == len(first) + len(ids), 30)
        own_rabbitmq.ctl("set_vm_memory_high_watermark", "0.6")
        until_sync(lambda: cluster.http.get("/health").json()["status"] == "ok", 30)
        until_sync(lambda: sockets(node.pid) <= before + 10, 30)
        report("B28", scale=f"{SUBMITS} submits under a memory alarm", faults=1)
