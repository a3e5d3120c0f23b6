"""After the broker's return a client is connected and consumes nothing: its connection came back, its consumers did not.

Seen in aio-pika#231, #563 and #632, celery#8030 and #10205. Right: every lane is consumed again within seconds of the
broker's return, as the broker itself counts; while none is, readiness says so; no process is started anew for it.
"""

from __future__ import annotations

import asyncio
from functools import partial

import aiormq
import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.system import ROLES
from tests.bug_report import Report
from tests.bugs.behind import Behind
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayRabbitMQ
from tests.throwaway.proxy import Proxy

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis")
CYCLES = 50 if FULL else 2
RESTARTS = 15


async def _consumers(url: str, namespace: str) -> list[int]:
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel()
        names = [f"{namespace}.default.{lane}.v1" for lane in ("high", "normal", "low")]
        return [(await channel.queue_declare(name, passive=True)).consumer_count or 0 for name in names]
    finally:
        await connection.close()


def consumed(url: str, cluster: Cluster) -> bool:
    """Whether each lane has its consumer, as the broker says."""
    try:
        return asyncio.run(_consumers(url, cluster.namespace)) == [1, 1, 1]
    except (aiormq.exceptions.AMQPError, OSError):
        return False


def ready(cluster: Cluster) -> bool:
    """Whether the process says that all its roles work."""
    return cluster.http.get("/health/ready").status_code == 200


def test_the_way_to_the_broker_is_lost(behind: Behind, report: Report) -> None:
    """By a cut, by silence, and by an end that only the broker hears of."""
    cluster, broker = behind.cluster, behind.broker
    url, pid, every = cluster.broker, behind.node.pid, []
    for cycle in range(CYCLES):
        until_sync(partial(consumed, url, cluster), 20)
        if cycle % 3 == 2:
            broker.do(Proxy.abandon)
        else:
            behind.part(broker)
            until_sync(lambda: not ready(cluster), 10)
            behind.join(broker)
        ids = cluster.submit("demo.echo", count=10)
        until_sync(partial(behind.succeeded, ids), 20)
        # A half-open link is found out by the watchdog, which asks each 5 s and waits for 3.
        until_sync(partial(consumed, url, cluster), 20)
        until_sync(lambda: ready(cluster), 20)
        every += ids
    assert behind.node.runs
    assert behind.node.pid == pid
    report("B26", scale=f"{CYCLES} cycles, {len(every)} jobs", faults=broker.faults["cut"])


if FULL:

    def test_the_broker_restarts(own_rabbitmq: ThrowawayRabbitMQ, report: Report, cluster: Cluster) -> None:
        """With other connections, other channels, and all queues kept."""
        cluster.environment["TASKFLOW_BROKER_URL"] = own_rabbitmq.url
        node = cluster.node(ROLES)
        cluster.ready()
        for restart in range(RESTARTS):
            own_rabbitmq.stop()
            until_sync(lambda: not ready(cluster), 20)
            own_rabbitmq.start()
            cluster.submit("demo.echo", count=10)
            until_sync(lambda done=10 * (restart + 1): cluster.count("state = 'succeeded'") == done, 20)  # type: ignore[misc]
            until_sync(partial(consumed, own_rabbitmq.url, cluster), 20)
            until_sync(lambda: ready(cluster), 20)
        assert node.runs
        report("B26", scale=f"{RESTARTS} restarts", faults=RESTARTS)
