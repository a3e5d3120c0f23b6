"""Workers share what there is: nobody hoards, and nobody idles while jobs wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.faults import witness
from tests.figures import Say
from tests.support import FULL, until_sync

SHARES = 'SELECT count(*) FROM "{schema}".finished GROUP BY worker_id ORDER BY min(finished_at)'

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An API and a scheduler; a worker has four slots."""
    with Cluster(tmp_path, TASKFLOW_CONSUMER_SLOTS="4") as made:
        made.node("api")
        made.node("scheduler")
        yield made


def workers(cluster: Cluster, count: int) -> None:
    """Start so many, and wait for them."""
    for _ in range(count):
        cluster.node("consumer")
    cluster.ready(workers=count)


def seconds(cluster: Cluster, what: str, rows: str) -> float:
    """Of the database's clock; `{schema}` stands for the schema."""
    [row] = cluster.sql(f"SELECT extract(epoch FROM {what}) AS seconds FROM {rows}".format(schema=cluster.namespace))
    return float(row["seconds"])


def test_a_worker_that_comes_late_finds_work(cluster: Cluster, say: Say) -> None:
    """What waits is taken from the table; no other worker sits on its tickets."""
    jobs, length, late = 12, 30 if FULL else 12, 5 if FULL else 1
    workers(cluster, 2)
    cluster.submit("demo.sleep", {"seconds": length}, count=jobs)
    until_sync(lambda: cluster.count("state = 'running'", "jobs") == 8, 20)
    until_sync(lambda: seconds(cluster, "clock_timestamp() - min(created_at)", "{schema}.jobs") > late, 20)
    began = seconds(cluster, "now", "clock_timestamp() AS now")
    third = cluster.node("consumer")
    until_sync(lambda: cluster.count(f"state = 'running' AND worker_id LIKE '%-{third.pid}-%'", "jobs"), 12)
    busy = seconds(cluster, "min(started_at)", f"{{schema}}.jobs WHERE worker_id LIKE '%-{third.pid}-%'")
    say("a late worker is busy after", f"{busy - began:.2f} s (its start included)")
    assert busy - began < 12
    if FULL:
        until_sync(lambda: cluster.count("state = 'succeeded'") == jobs, 2 * length)
        assert cluster.count("attempt = 1") == jobs


def test_jobs_are_spread_evenly(cluster: Cluster, say: Say) -> None:
    """64 jobs of a second on 16 slots take little more than 4 s."""
    workers(cluster, 4)
    took = []
    for _ in range(5 if FULL else 1):
        cluster.submit("demo.sleep", {"seconds": 1}, count=64)
        until_sync(lambda: cluster.count("true", "jobs") == 0, 60)
        took.append(
            seconds(
                cluster,
                "max(finished_at) - min(created_at)",
                "(SELECT * FROM {schema}.finished ORDER BY created_at DESC LIMIT 64) AS last",
            )
        )
    say("64 jobs of 1 s on 16 slots", ", ".join(f"{each:.2f} s" for each in took))
    # A busy machine is not unfair.
    assert max(took) <= (1.25 if FULL else 2) * 4


def test_who_computes_takes_no_more_than_it_will_soon_begin(cluster: Cluster, say: Say) -> None:
    """Whatever slots it has: a worker that comes late finds work."""
    settings = {"TASKFLOW_CONSUMER_SLOTS": "1000", **witness.SETTINGS}
    cluster.node("consumer", port=None, **settings)
    cluster.ready(workers=1)
    jobs = cluster.submit("witness.compute", {"seconds": 0.015}, count=600)
    until_sync(lambda: cluster.count("state = 'succeeded'") > 0, 20)
    cluster.node("consumer", port=None, **settings)
    until_sync(lambda: cluster.count("state = 'succeeded'") == len(jobs), 60)
    shares = [row[0] for row in cluster.sql(SHARES.format(schema=cluster.namespace))]
    say("600 jobs that compute, on a worker and on one that came late", " and ".join(map(str, shares)))
    assert len(shares) == 2
    assert min(shares) > 60
    assert cluster.count("interruptions > 0") == 0
