"""One process with all roles, which a network that fails parts from PostgreSQL and from RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.acceptance.cluster import Cluster, Node
from tests.acceptance.system import ROLES
from tests.throwaway.proxy import Proxy, ProxyThread, through


class Behind:
    """The process, and what stands between it and its servers.

    Attributes:
        cluster: knows what the tables hold, and speaks HTTP.
        node: the process.
        store: before PostgreSQL.
        broker: before RabbitMQ.
    """

    def __init__(self, cluster: Cluster, store: ProxyThread, broker: ProxyThread) -> None:
        self.cluster, self.store, self.broker = cluster, store, broker
        self.node: Node = cluster.node(ROLES)
        cluster.ready()

    def succeeded(self, ids: list[str]) -> bool:
        """Whether all of these have, each by one attempt."""
        found = "', '".join(ids)
        return self.cluster.count(f"id IN ('{found}') AND state = 'succeeded'") == len(ids)

    def ready(self) -> bool:
        """Whether the process says that all its roles work."""
        return bool(self.cluster.http.get("/health/ready").status_code == 200)

    def part(self, proxy: ProxyThread) -> None:
        """Cut every connection, and let no new one be made."""
        proxy.do(Proxy.part)

    def join(self, proxy: ProxyThread) -> None:
        """As before."""
        proxy.do(lambda each: each.refuse(False))


@pytest.fixture(scope="session")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One for all bugs: a start costs seconds."""
    directory: Path = tmp_path_factory.mktemp("behind")
    with (
        ProxyThread.before(servers.POSTGRES) as to_store,
        ProxyThread.before(servers.AMQP) as to_broker,
        Cluster(directory, TASKFLOW_ARTIFACTS_URL=f"file://{directory}/objects") as cluster,
    ):
        store = f"{cluster.environment['TASKFLOW_STORE_URL']}&sslmode=disable"
        cluster.environment |= {
            "TASKFLOW_STORE_URL": through(store, to_store),
            "TASKFLOW_BROKER_URL": through(cluster.broker, to_broker),
            "TASKFLOW_CONSUMER_LEASE": "10",
        }
        yield Behind(cluster, to_store, to_broker)
