"""RabbitMQ forgets: the table is the queue of last resort."""

from __future__ import annotations

from collections.abc import Iterator
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
