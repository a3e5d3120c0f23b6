"""RabbitMQ and S3 away while clients submit: no process grows by much, and all of it is over when they are back.

The long form (TASKFLOW_TEST_FULL=1): 10 minutes are too long for one machine's tests; 6 at 200 submits a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests import servers
from tests.acceptance.cluster import Cluster
from tests.faults.test_s3_and_disk import bucket_through, down, spooled_in
from tests.faults.watch import Watch
from tests.figures import Say
from tests.processes import rss
from tests.support import FULL, until_sync
from tests.throwaway.proxy import ProxyThread, through

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
AWAY: Final = 360.0 if FULL else 3.0
WARM: Final = 30.0 if FULL else 1.5
"""Seconds of the same load before, after which a process has what it always needs."""
GROWTH: Final = 50 << 20


@pytest.fixture
def broker() -> Iterator[ProxyThread]:
    """The network before RabbitMQ."""
    with ProxyThread.before(servers.AMQP) as proxy:
        yield proxy


@pytest.fixture
def bucket() -> Iterator[ProxyThread]:
    """And before S3."""
    with ProxyThread.before(servers.s3().url) as proxy:
        yield proxy


def test_an_outage_fills_no_memory(tmp_path: Path, broker: ProxyThread, bucket: ProxyThread, say: Say) -> None:
    """Tickets that cannot go are forgotten beyond a few, log lines lie on disk."""
    with Cluster(tmp_path, **bucket_through(bucket)) as cluster:
        cluster.environment["TASKFLOW_BROKER_URL"] = through(cluster.broker, broker)
        api, consumer = cluster.node("api"), cluster.node("consumer,scheduler")
        cluster.ready()
        payload = {
            "lines": ["a line of a log, as long as those of most programs are: some eighty characters, that is"] * 2
        }
        pids = {"api": api.pid, "consumer": consumer.pid}
        with Watch(cluster.port, "demo.log", payload, clients=4, pause=0.015, looked_at=["/api/v1/tasks"]) as watch:
            goes_on(watch, WARM)
            before = {name: rss(pid) for name, pid in pids.items()}
            with down(broker), down(bucket):
                began, submitted = time.monotonic(), len(watch.answers)
                goes_on(watch, AWAY)
                rate = (len(watch.answers) - submitted) / (time.monotonic() - began)
                within = {name: rss(pid) for name, pid in pids.items()}
                assert spooled_in(tmp_path) > 0
            goes_on(watch, WARM / 2)
        until_sync(partial(all_over, cluster, watch), 120)
        until_sync(lambda: spooled_in(tmp_path) == 0, 120)
        after = {name: rss(pid) for name, pid in pids.items()}
        grown = {name: f"{(within[name] - before[name]) / 2**20:+.1f} MiB" for name in pids}
        later = {name: f"{(after[name] - before[name]) / 2**20:+.1f} MiB" for name in pids}
        say("RabbitMQ and S3 away", f"{AWAY:g} s at {rate:.0f} submits/s: {grown}, and {later} after it")
        assert watch.refused == []
        for name in pids:
            assert within[name] - before[name] < GROWTH
            assert after[name] - before[name] < GROWTH


def goes_on(watch: Watch, seconds: float) -> None:
    """The load, for so long."""
    end, enough = time.monotonic() + seconds, len(watch.answers) + 20
    until_sync(lambda: time.monotonic() > end and len(watch.answers) > enough, seconds + 30)


def all_over(cluster: Cluster, watch: Watch) -> bool:
    """Whether what was accepted has succeeded."""
    return cluster.count("state = 'succeeded'") == len(watch.accepted)
