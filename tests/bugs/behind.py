"""One process with all roles, which a network that fails parts from PostgreSQL and from RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import servers
from tests.acceptance.cluster import Cluster, Node
from tests.throwaway.proxy import Proxy, ProxyThread

ROLES = "api,consumer,scheduler"


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

    def part(self, proxy: ProxyThread) -> None:
        """Cut every connection, and let no new one be made."""
        proxy.do(Proxy.refuse)
        proxy.do(Proxy.cut)

    def join(self, proxy: ProxyThread) -> None:
        """As before."""
        proxy.do(lambda each: each.refuse(False))

    def faults(self, proxy: ProxyThread, name: str) -> int:
        """How often a trick met a connection."""
        return proxy.do(lambda each: each.faults[name])


@pytest.fixture(scope="session")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One for all bugs: a start costs seconds."""
    directory: Path = tmp_path_factory.mktemp("behind")
    store, broker = urlsplit(servers.url_of("postgresql")), urlsplit(servers.url_of("rabbitmq"))
    with (
        ProxyThread(store.port or 5432) as to_store,
        ProxyThread(broker.port or 5672) as to_broker,
        Cluster(directory, TASKFLOW_ARTIFACTS_URL=f"file://{directory}/objects") as cluster,
    ):
        user = f"{store.netloc.rpartition('@')[0]}@" if "@" in store.netloc else ""
        cluster.environment |= {
            "TASKFLOW_STORE_URL": f"postgresql://{user}127.0.0.1:{to_store.port}{store.path}"
            f"?schema={cluster.namespace}&sslmode=disable",
            "TASKFLOW_BROKER_URL": broker._replace(
                netloc=f"{broker.username}:{broker.password}@127.0.0.1:{to_broker.port}"
            ).geturl(),
            "TASKFLOW_CONSUMER_LEASE": "10",
        }
        yield Behind(cluster, to_store, to_broker)
