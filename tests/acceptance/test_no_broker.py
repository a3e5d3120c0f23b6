"""RabbitMQ goes away, comes back, and forgets: the table is the queue of last resort."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.support import until_sync
from tests.throwaway import ThrowawayRabbitMQ

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")


@pytest.fixture
def cluster(tmp_path: Path, own_rabbitmq: ThrowawayRabbitMQ) -> Iterator[Cluster]:
    """Three processes on it."""
    with Cluster(tmp_path, TASKFLOW_BROKER_URL=own_rabbitmq.url) as made:
        for roles in ("api", "scheduler", "consumer"):
            made.node(roles)
        yield made.ready()


def test_every_submit_is_accepted_while_the_broker_is_away(cluster: Cluster, own_rabbitmq: ThrowawayRabbitMQ) -> None:
    """Jobs go on running by draw; after its return tickets come again."""
    over = threading.Event()
    codes: list[int] = []

    def submit() -> None:
        while not over.wait(0.02):
            codes.append(cluster.http.post("/jobs", json={"task": "demo.echo"}).status_code)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(submit)
        try:
            until_sync(lambda: cluster.count("true") > 50, 20)
            own_rabbitmq.kill()
            before = len(codes)
            until_sync(lambda: len(codes) > before + 300, 60)
            done = cluster.count("true")
            until_sync(lambda: cluster.count("true") > done + 100, 30)
            own_rabbitmq.start()
            until_sync(lambda: "is back" in cluster.output, 60)
        finally:
            over.set()
    assert set(codes) == {202}
    until_sync(lambda: cluster.count("state = 'succeeded'") == len(codes), 30)


def test_a_purge_of_all_queues_loses_nothing(cluster: Cluster, own_rabbitmq: ThrowawayRabbitMQ) -> None:
    """Ten thousand tickets gone, ten thousand jobs run."""
    [consumer] = [node for node in cluster.nodes if node.roles == "consumer"]
    consumer.stop()
    cluster.submit("demo.echo", count=10_000)
    lane = f"{cluster.namespace}.default.normal.v1"
    until_sync(lambda: f"{lane}\t0" not in own_rabbitmq.ctl("-q", "list_queues", "name", "messages"), 30)
    own_rabbitmq.ctl("purge_queue", lane)
    consumer.start()
    until_sync(lambda: cluster.count("state = 'succeeded'") == 10_000, 90)
