"""Clients submit all the time, and processes and servers come and go: no request fails, no attempt is charged.

Each has a short form; `make faults-full` runs the long one.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import quantiles

import pytest

from tests.acceptance.cluster import Cluster, Node
from tests.acceptance.load import Load, all_finish_once, reached
from tests.figures import Say
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayRabbitMQ, ThrowawayRedis, ThrowawayWeed, free_ports
from tests.throwaway.server import listens

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
PAUSE = 0.0 if FULL else 0.02
AWAY = float(os.environ.get("TASKFLOW_TEST_AWAY") or (60 if FULL else 2))
"""Seconds without RabbitMQ, at about 100 submits a second."""


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


def test_a_rolling_restart_of_the_api_fails_no_request(cluster: Cluster, say: Say) -> None:
    """What an API has let in it answers, and it says which answer is its last on a connection."""
    [second] = free_ports(1)
    apis = {cluster.port: cluster.node("api"), second: cluster.node("api", port=second)}
    cluster.node("consumer")
    cluster.node("scheduler")
    cluster.ready()
    until_sync(partial(listens, second), 20)
    stops = []
    with Load(list(apis), pause=PAUSE) as load:
        for _ in range(10 if FULL else 1):
            for port, api in apis.items():
                enough = len(load.accepted) + 50
                until_sync(partial(reached, load, enough), 30)
                stops.append(restarted(api))
                until_sync(partial(listens, port), 30)
    say(
        "requests over restarts",
        f"{len(load.accepted)} accepted over {len(stops)}, stops of at most {max(stops):.2f} s",
    )
    assert load.failures == []
    assert load.refused > 0
    all_finish_once(cluster, load)


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
    all_finish_once(cluster, load)
    say("jobs over restarts", f"{len(load.accepted)} over {len(stops)}, stops of at most {max(stops):.2f} s")
    assert cluster.count("attempt = 1 AND crashes = 0 AND interruptions = 0") == len(load.accepted)


def percentile(values: Sequence[float], percent: int) -> float:
    """What so many of a hundred stay within."""
    return quantiles(values, n=100)[percent - 1]


def said(cluster: Cluster, what: str) -> list[float]:
    """When the processes said something, in seconds of the wall clock."""
    lines = [json.loads(line) for line in cluster.output.splitlines() if what in line and line.startswith("{")]
    return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]


def test_rabbitmq_may_be_away(tmp_path: Path, say: Say) -> None:
    """Every submit is accepted, jobs go on by draw, and soon after its return by ticket."""
    with ThrowawayRabbitMQ() as rabbit, Cluster(tmp_path, TASKFLOW_BROKER_URL=rabbit.url) as cluster:
        for roles in ("api", "scheduler", "consumer"):
            cluster.node(roles)
        cluster.ready()
        with Load([cluster.port], clients=3, pause=0.03) as load:
            until_sync(lambda: said(cluster, "tickets start jobs"), 30)
            until_sync(lambda: len(load.accepted) > AWAY, 60)
            rabbit.stop()
            away, accepted, before = time.monotonic(), len(load.accepted), cluster.count("true")
            healthy = percentile(load.seconds, 99)
            while time.monotonic() - away < AWAY:
                until_sync(partial(more_finished, cluster, cluster.count("true") + 20), 10)
            meanwhile = percentile(load.seconds[accepted:], 99)
            rate = (cluster.count("true") - before) / (time.monotonic() - away)
            submitted = len(load.accepted) - accepted
            rabbit.start()
            back = time.time()
            until_sync(lambda: any(at > back for at in said(cluster, "tickets start jobs")), 30)
            waited = min(at for at in said(cluster, "tickets start jobs") if at > back) - back
            queue = f"{cluster.namespace}.default.normal.v1\t1"
            until_sync(lambda: queue in rabbit.ctl("-q", "list_queues", "name", "consumers"), 20)
            # RabbitMQ counts from its start.
            until_sync(lambda: acknowledged(rabbit) > 20, 20)
        times = f"p99 {meanwhile * 1_000:.1f} ms, {healthy * 1_000:.1f} ms before"
        say(f"while RabbitMQ was away for {AWAY:g} s", f"{submitted} accepted, {times}, {rate:.0f} finished/s by draw")
        say("after its return, by ticket again within", f"{waited:.2f} s")
        assert load.failures == []
        assert waited < 15
        assert meanwhile <= 3 * healthy or not FULL, "a busy machine may hold up one of few"
        all_finish_once(cluster, load)


def more_finished(cluster: Cluster, enough: int) -> bool:
    """Whether so many jobs are over."""
    return cluster.count("true") >= enough


def more_logs(cluster: Cluster, enough: int) -> bool:
    """Whether so many pieces of logs are stored."""
    return cluster.count("true", "log_segments") >= enough


def acknowledged(rabbit: ThrowawayRabbitMQ) -> int:
    """Messages that consumers have acked since the server started."""
    counted = rabbit.ctl("eval", "rabbit_global_counters:overview().")
    return sum(int(number) for number in re.findall(r"messages_acknowledged_total => (\d+)", counted))


def test_redis_forgets_and_every_log_is_deleted(tmp_path: Path, say: Say) -> None:
    """All jobs finish, no request fails, and a log that is lost says so."""
    with ThrowawayRedis() as redis, ThrowawayWeed() as weed:
        environment = {f"TASKFLOW_{what}_URL": redis.url for what in ("CACHE", "EVENTS", "LIMITER")} | {
            "TASKFLOW_ARTIFACTS_URL": weed.url,
            "TASKFLOW_ARTIFACTS_ACCESS_KEY": weed.access_key,
            "TASKFLOW_ARTIFACTS_SECRET_KEY": weed.secret_key,
        }
        with Cluster(tmp_path, **environment) as cluster:
            for roles in ("api", "scheduler", "consumer"):
                cluster.node(roles)
            cluster.ready()
            codes: set[int] = set()
            with Load([cluster.port], clients=2, pause=0.02) as load:
                for _ in range(5 if FULL else 2):
                    enough = cluster.count("true", "log_segments") + 50
                    until_sync(partial(more_logs, cluster, enough), 30)
                    gone = cluster.sql(
                        f"SELECT job_id FROM {cluster.namespace}.log_segments ORDER BY created_at DESC LIMIT 5"
                    )
                    assert redis.ask("FLUSHALL").startswith(b"+OK")
                    weed.delete_all()
                    for row in gone:
                        answer = cluster.http.get(f"/logs/{row['job_id']}")
                        assert (answer.status_code, answer.headers["taskflow-logs"]) == (200, "truncated")
                        assert "lines are missing here" in answer.text
                        codes |= {cluster.http.get(f"/jobs/{row['job_id']}").status_code}
            assert load.failures == []
            assert codes == {200}
            all_finish_once(cluster, load)
            say("jobs over flushes and deletions", str(len(load.accepted)))
