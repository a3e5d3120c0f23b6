"""Clients submit all the time, and processes and servers come and go: no request fails, no attempt is charged.

Each has a short form; `make faults-full` runs the long one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, Node
from tests.acceptance.load import Load, Say, finished_once
from tests.support import until_sync
from tests.throwaway import free_ports
from tests.throwaway.server import listens

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
FULL = bool(os.environ.get("TASKFLOW_TEST_FULL"))
PAUSE = 0.0 if FULL else 0.02


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Servers and a schema, and no process yet."""
    with Cluster(tmp_path) as made:
        yield made


def restarted(node: Node) -> float:
    """Stop a process politely and start it again; the seconds that the stop took."""
    began = time.monotonic()
    assert node.stop() == 0
    took = time.monotonic() - began
    node.start()
    return took


def hears(port: int) -> bool:
    """Whether somebody listens."""
    try:
        return listens(port)
    except OSError:
        return False


def reached(load: Load, enough: int) -> bool:
    """Whether so many were accepted."""
    return len(load.accepted) >= enough


def test_a_rolling_restart_of_the_api_fails_no_request(cluster: Cluster, say: Say) -> None:
    """What an API has let in it answers, and it says which answer is its last on a connection."""
    [second] = free_ports(1)
    apis = {cluster.port: cluster.node("api"), second: cluster.node("api", port=second)}
    cluster.node("consumer")
    cluster.node("scheduler")
    cluster.ready()
    until_sync(partial(hears, second), 20)
    stops = []
    with Load(list(apis), pause=PAUSE) as load:
        for _ in range(10 if FULL else 1):
            for port, api in apis.items():
                enough = len(load.accepted) + 50
                until_sync(partial(reached, load, enough), 30)
                stops.append(restarted(api))
                until_sync(partial(hears, port), 30)
    say(
        "requests over restarts",
        f"{len(load.accepted)} accepted over {len(stops)}, stops of at most {max(stops):.2f} s",
    )
    assert load.failures == []
    assert load.refused > 0
    until_sync(lambda: finished_once(cluster, load), 60)


def test_a_rolling_restart_of_the_consumers_charges_no_attempt(cluster: Cluster, say: Say) -> None:
    """What runs is let end, what was only delivered goes to the other one."""
    for roles in ("api", "scheduler", "consumer", "consumer"):
        cluster.node(roles)
    cluster.ready(workers=2)
    consumers = [node for node in cluster.nodes if node.roles == "consumer"]
    stops = []
    with Load([cluster.port], "demo.sleep", {"seconds": 0.3}, clients=4, pause=PAUSE) as load:
        for _ in range(5 if FULL else 1):
            for consumer in consumers:
                until_sync(lambda: cluster.count("state = 'running'", "jobs") > 20, 30)
                stops.append(restarted(consumer))
                until_sync(lambda: len(cluster.alive()) == 2, 30)
    assert load.failures == []
    until_sync(lambda: finished_once(cluster, load), 60)
    say("jobs over restarts", f"{len(load.accepted)} over {len(stops)}, stops of at most {max(stops):.2f} s")
    assert cluster.count("attempt = 1 AND crashes = 0 AND interruptions = 0") == len(load.accepted)
