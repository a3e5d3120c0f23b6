"""The doctor on PostgreSQL, RabbitMQ, Redis and S3: silent about a system at work, and not about a broken one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiormq
import pytest
import redis

from taskflow.adapters.obstore import S3Artifacts
from tests.acceptance.cluster import Cluster
from tests.support import until_sync

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Servers and a schema, and no process yet."""
    with Cluster(tmp_path) as made:
        yield made


def doctor(cluster: Cluster, *words: str, **environment: str) -> tuple[int, list[dict[str, Any]], list[str]]:
    """Exit code, what is not well, and what was done."""
    done = subprocess.run(
        [sys.executable, "-m", "taskflow", "doctor", "--json", *words],
        cwd=cluster.directory,
        env=cluster.environment | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    document = json.loads(done.stdout)
    return done.returncode, [one for one in document["findings"] if one["severity"] != "ok"], document["done"]


def told(findings: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Checks and how bad it is."""
    return {(finding["check"], finding["severity"]) for finding in findings}


def test_a_system_under_load_is_well(cluster: Cluster) -> None:
    """Looked at again and again while thousands of jobs run, fail, retry and wait; that they did so is asserted."""
    cluster.node("api,scheduler")
    cluster.node("consumer")
    cluster.node("consumer")
    cluster.ready(workers=2)
    ids = [
        *cluster.submit("demo.sleep", {"seconds": 0.5}, count=6_000),
        *cluster.submit("demo.flaky", {"fail_times": 1}, count=500),
        *cluster.submit("demo.log", {"lines": ["hello"], "seconds": 0.5}, count=500, priority=1),
        *cluster.submit("demo.echo", {"n": 1}, count=500, priority=9, delay=5),
    ]
    looks, busy = 0, 0
    while looks < 2 or cluster.count("true", "jobs"):
        before = cluster.count("state = 'queued' AND queued_at < now() - interval '1 second'", "jobs")
        code, findings, _ = doctor(cluster)
        assert (code, findings) == (0, [])
        looks, busy = looks + 1, busy + (before > 0 and cluster.count("true", "jobs") > 0)
    assert busy >= 1, "the doctor never saw the load"
    assert cluster.count("state = 'succeeded'") == len(ids)


@pytest.mark.full
def test_a_dead_worker_that_nobody_sweeps_away(cluster: Cluster) -> None:
    """Both are told: who is silent, and why nobody noticed. A repair gives its job to the next worker."""
    cluster.node("api")
    worker = cluster.node("consumer")
    scheduler = cluster.node("scheduler")
    cluster.ready()
    [job_id] = cluster.submit("demo.sleep", {"seconds": 2})
    until_sync(lambda: cluster.job(job_id)["state"] == "running")
    scheduler.kill()
    worker.kill()

    def since(column: str, table: str) -> float:
        seconds = f'SELECT extract(epoch FROM now() - max({column})) FROM "{cluster.namespace}".{table}'
        return float(cluster.sql(seconds)[0][0])

    # A missed sweep says little: three of the longest pause, and a little more, say that nobody sweeps.
    until_sync(lambda: since("heartbeat_at", "workers") > 6 and since("last_sweep_at", "upkeep") > 18, 40)
    code, findings, _ = doctor(cluster)
    assert (code, told(findings)) == (1, {("sweeps", "problem"), ("workers", "problem")})
    [silent] = [one for one in findings if one["check"] == "workers"]
    assert str(worker.pid) in silent["ids"][0]
    code, _, done = doctor(cluster, "--repair")
    assert (code, done, cluster.job(job_id)["state"]) == (1, [], "running")
    code, _, done = doctor(cluster, "--repair", "--yes")
    assert (code, done) == (1, ["swept: 1 workers declared dead, 1 runs rescued"])
    assert cluster.job(job_id)["state"] in {"queued", "waiting"}
    cluster.node("consumer,scheduler")
    assert cluster.job(job_id, wait=40)["state"] == "succeeded"
    until_sync(lambda: doctor(cluster)[:2] == (0, []), 60)


@pytest.mark.full
def test_what_is_due_without_a_scheduler(cluster: Cluster) -> None:
    """A repair queues it, once."""
    cluster.node("api")
    cluster.node("consumer")
    cluster.ready()
    [job_id] = cluster.submit("demo.echo", {"n": 1}, delay=1)
    late = f"SELECT count(*) FROM \"{cluster.namespace}\".jobs WHERE run_at < now() - interval '11 seconds'"
    until_sync(lambda: cluster.sql(late)[0][0] == 1, 40)
    code, findings, done = doctor(cluster, "--repair", "--yes")
    assert (code, told(findings)) == (1, {("sweeps", "problem"), ("due", "problem")})
    assert done == ["queued 1 jobs that were due"]
    assert cluster.job(job_id, wait=40)["state"] == "succeeded"


def test_objects_and_cached_documents(cluster: Cluster) -> None:
    """An object that is gone; a document that somebody else wrote, which is deleted."""
    cluster.node("api,consumer,scheduler")
    cluster.ready()
    [job_id] = cluster.submit("demo.log", {"lines": ["hello"]})
    cluster.job(job_id, wait=30)
    until_sync(lambda: cluster.count("true", "log_segments") > 0, 20)
    until_sync(lambda: cluster.in_redis(f"cache:*{job_id}"), 20)
    key = cluster.sql(f'SELECT object FROM "{cluster.namespace}".log_segments')[0][0]

    async def lose() -> None:
        s3 = cluster.s3
        async with S3Artifacts.from_url(s3.url, access_key=s3.access_key, secret_key=s3.secret_key) as store:
            await store.delete(key)

    asyncio.run(lose())
    [entry] = cluster.in_redis(f"cache:*{job_id}")
    with redis.Redis.from_url(cluster.redis) as client:
        client.set(entry, json.dumps({"id": job_id, "state": "cancelled", "epoch": 1}))
    code, findings, done = doctor(cluster, "--repair", "--yes")
    assert (code, told(findings)) == (1, {("objects", "problem"), ("cached", "problem")})
    assert [one["ids"] for one in findings] == [[key], [job_id]]
    assert (done, cluster.in_redis(f"cache:*{job_id}")) == (["deleted 1 cached documents"], [])
    assert cluster.job(job_id)["state"] == "succeeded"
    assert told(doctor(cluster, "--all")[1]) == {("objects", "problem")}


def lanes_there(cluster: Cluster) -> list[str]:
    """Queues of the lanes that exist."""

    async def ask() -> list[str]:
        connection = await aiormq.connect(cluster.broker)
        found = []
        try:
            for lane in ("high", "normal", "low"):
                channel = await connection.channel()
                try:
                    await channel.queue_declare(f"{cluster.namespace}.default.{lane}.v1", passive=True)
                except aiormq.exceptions.ChannelNotFoundEntity:
                    continue
                found.append(f"{lane}.v1")
        finally:
            await connection.close()
        return found

    return asyncio.run(ask())


def test_a_lane_that_nobody_consumes_and_a_dead_letter(cluster: Cluster) -> None:
    """A queue with arguments of somebody else; a message that is no ticket."""

    async def foreign() -> None:
        connection = await aiormq.connect(cluster.broker)
        try:
            channel = await connection.channel()
            await channel.queue_declare(f"{cluster.namespace}.default.high.v1", durable=True)
        finally:
            await connection.close()

    async def nonsense() -> None:
        connection = await aiormq.connect(cluster.broker)
        try:
            channel = await connection.channel()
            await channel.basic_publish(b"no ticket", routing_key=f"{cluster.namespace}.default.low.v1", mandatory=True)
        finally:
            await connection.close()

    asyncio.run(foreign())
    cluster.node("api,consumer,scheduler")
    alive = f"SELECT count(*) FROM \"{cluster.namespace}\".workers WHERE state = 'alive'"
    # It never says that it is ready: it does not consume all that it should.
    until_sync(lambda: cluster.sql(alive)[0][0] == 1, 40)
    until_sync(lambda: "low.v1" in lanes_there(cluster), 40)
    asyncio.run(nonsense())

    def both() -> bool:
        code, findings, _ = doctor(cluster)
        return (code, told(findings)) == (1, {("lanes", "problem"), ("lanes", "warning")})

    until_sync(both, 60)
    [lane] = [one for one in doctor(cluster)[1] if one["severity"] == "problem"]
    assert lane["ids"] == ["default.high"]


@pytest.mark.full
def test_servers_that_are_away(cluster: Cluster) -> None:
    """Each is told with what follows; the rest is looked at all the same."""
    closed = {"TASKFLOW_BROKER_URL": "amqp://127.0.0.1:1/", "TASKFLOW_CACHE_URL": "redis://127.0.0.1:1/0"}
    code, findings, _ = doctor(cluster, **closed)
    assert code == 1
    assert {("broker", "problem"), ("cache", "problem"), ("lanes", "warning")} <= told(findings)
    code, findings, _ = doctor(cluster, TASKFLOW_STORE_URL="postgresql://root@127.0.0.1:1/test")
    assert (code, told(findings)) == (1, {("store", "problem")})
    cluster.taskflow("db", "downgrade", "base")
    code, findings, _ = doctor(cluster)
    assert (code, told(findings), findings[0]["advice"]) == (1, {("schema", "problem")}, "run `taskflow db upgrade`")
