"""What shows only on PostgreSQL, RabbitMQ, Redis and S3: what lies where, and workers that come and go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiormq
import pytest

from taskflow.wiring.settings import load
from tests.acceptance.cluster import Cluster
from tests.figures import Say
from tests.support import FULL, until_sync

pytestmark = [pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")]
STATEMENT = 0.5 if FULL else 5.0
"""Seconds that the sweep's own statement may take; more where the machine is busy with other tests."""
"""Seconds that the sweep itself may take."""
APART = ("api", "consumer", "scheduler")
TOGETHER = ("api,consumer,scheduler",)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Servers and a schema, and no process yet."""
    with Cluster(tmp_path) as made:
        yield made


def start(cluster: Cluster, shape: tuple[str, ...]) -> Cluster:
    """A process for each member of the shape."""
    for roles in shape:
        cluster.node(roles)
    return cluster.ready()


async def queues(cluster: Cluster) -> dict[str, tuple[int, int]]:
    """(ready, consumers) of each lane's queue; fails where one does not exist."""
    connection = await aiormq.connect(cluster.broker)
    try:
        channel = await connection.channel()
        found = {}
        for lane in ("high", "normal", "low"):
            told = await channel.queue_declare(f"{cluster.namespace}.default.{lane}.v1", passive=True)
            found[lane] = (told.message_count or 0, told.consumer_count or 0)
        return found
    finally:
        await connection.close()


@pytest.mark.parametrize("shape", [APART, TOGETHER], ids=["apart", "together"])
def test_a_thousand_jobs(cluster: Cluster, shape: tuple[str, ...]) -> None:
    """Rows in PostgreSQL, queues in RabbitMQ, logs in S3, documents in Redis: each where it belongs."""
    start(cluster, shape)
    ids = cluster.submit("demo.echo", {"n": 1}, count=990) + cluster.submit("demo.log", {"lines": ["hello"]}, count=10)
    until_sync(lambda: cluster.count("state = 'succeeded'") == 1_000, 60)
    assert cluster.count("true", "jobs") == 0
    assert until_sync(lambda: (found := asyncio.run(queues(cluster))) and all(r == 0 for r, _ in found.values()), 20)
    assert all(consumers == 1 for _, consumers in asyncio.run(queues(cluster)).values())
    job = cluster.job(ids[-1])
    assert (job["state"], [attempt["outcome"] for attempt in job["attempts"]]) == ("succeeded", ["succeeded"])
    until_sync(lambda: "hello" in cluster.http.get(f"/logs/{ids[-1]}").text, 20)
    assert cluster.count("true", "log_segments") >= 10
    until_sync(lambda: any(ids[-1].encode() in key for key in cluster.in_redis()), 10)


def test_the_schema_goes_and_comes_by_command(cluster: Cluster) -> None:
    """As an operator does it, by the settings alone."""
    cluster.taskflow("db", "downgrade", "base")
    assert cluster.sql(f"SELECT to_regclass('{cluster.namespace}.jobs')")[0][0] is None
    cluster.taskflow("db", "upgrade")
    assert cluster.count("true", "jobs") == 0


def closings(cluster: Cluster) -> Counter[int]:
    """How many jobs have how many succeeded attempts, the one in the finished row included."""
    rows: list[Any] = cluster.sql(
        f"""SELECT count(attempts.job_id) AS times FROM "{cluster.namespace}".finished
        LEFT JOIN "{cluster.namespace}".attempts ON attempts.job_id = finished.id AND outcome = 'succeeded'
        GROUP BY finished.id"""
    )
    return Counter(int(row["times"]) for row in rows)


def test_a_killed_consumers_jobs_are_rescued(cluster: Cluster, say: Say) -> None:
    """Within lease and sweep, and closed once."""
    settings = load("run", {}, cluster.environment, None)
    bound = settings.lease.length + settings.sweep
    cluster.node("api")
    cluster.node("scheduler")
    doomed = cluster.node("consumer")
    cluster.ready()
    cluster.submit("demo.sleep", {"seconds": 0.3}, count=600)
    until_sync(lambda: cluster.count("state = 'running'", "jobs") > 20, 20)
    doomed.kill()
    [killed] = cluster.sql("SELECT clock_timestamp() AS at")
    cluster.node("consumer")
    until_sync(lambda: cluster.count("state = 'succeeded'") == 600, 60)
    assert closings(cluster) == {1: 600}
    [rescued] = cluster.sql(
        f"""SELECT count(*) AS jobs, max(finished_at) AS last FROM "{cluster.namespace}".attempts WHERE outcome = 'crashed'"""
    )
    took = (rescued["last"] - killed["at"]).total_seconds()
    say("rescued after a kill", f"{rescued['jobs']} jobs, the last after {took:.2f} s (lease and sweep: {bound:g} s)")
    assert rescued["jobs"] > 20
    assert took <= bound + STATEMENT


def test_a_stopped_consumer_charges_nobody(cluster: Cluster) -> None:
    """What it ran is an interruption; another worker runs it."""
    cluster.node("api")
    cluster.node("scheduler")
    first = cluster.node("consumer", TASKFLOW_CONSUMER_GRACEFUL="1")
    cluster.ready()
    ids = cluster.submit("demo.sleep", {"seconds": 3}, count=20)
    until_sync(lambda: cluster.count("state = 'running'", "jobs") == 20, 20)
    assert first.stop() == 0
    cluster.node("consumer")
    until_sync(lambda: cluster.count("state = 'succeeded'") == 20, 40)
    job = cluster.job(ids[0])
    assert (job["attempt"], [attempt["outcome"] for attempt in job["attempts"]]) == (1, ["interrupted", "succeeded"])
