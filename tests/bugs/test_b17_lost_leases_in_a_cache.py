"""Who runs what is kept in a store that forgets: after a failure of it, jobs are active for ever, and no recovery sees them.

Seen in asynq#1144 and #1051. Right: the table alone says who runs what. Redis may forget everything at any moment; only hit
rates and counts of requests change.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.bug_report import Report
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayRedis

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
JOBS = 100 if FULL else 40
SECONDS = 10.0 if FULL else 1.5
ROLES = ("api,scheduler", "consumer", "consumer") if FULL else ("api,consumer,scheduler",)
FLUSHES = 20 if FULL else 3


def echoed(cluster: Cluster, count: int) -> bool:
    """Whether so many short jobs are over."""
    return cluster.count("task = 'demo.echo'") == count


def test_everything_is_forgotten_while_jobs_run(own_redis: ThrowawayRedis, tmp_path: Path, report: Report) -> None:
    """Also the kill of a worker, at full scale, is noticed without it."""
    urls = {f"TASKFLOW_{name}_URL": own_redis.url for name in ("CACHE", "EVENTS", "LIMITER")}
    with Cluster(tmp_path, TASKFLOW_CONSUMER_SLOTS="200", TASKFLOW_API_RATE_LIMIT="1000/second", **urls) as cluster:
        nodes = [cluster.node(roles) for roles in ROLES]
        cluster.ready(sum("consumer" in roles for roles in ROLES))
        effects = tmp_path / "effects"
        cluster.submit("demo.sleep", {"seconds": SECONDS}, count=JOBS)
        for n in range(JOBS):
            cluster.submit("test.effect", {"path": str(effects), "key": str(n)}, delay=SECONDS / 2 + n % 10 / 10)
        until_sync(lambda: cluster.count("state = 'running'", "jobs") >= JOBS, 20)
        assert cluster.count("state = 'scheduled'", "jobs") > 0
        flushed = 0
        for turn in range(FLUSHES):
            assert own_redis.ask("FLUSHALL").startswith(b"+OK")
            flushed += 1
            if FULL and turn == 1:
                nodes[-1].kill()
            cluster.submit("demo.echo", {"n": turn})
            until_sync(partial(echoed, cluster, turn + 1), 20)
        total = 2 * JOBS + FLUSHES
        until_sync(lambda: cluster.count("state = 'succeeded'") == total, 90)
        assert cluster.count("true", "jobs") == 0
        keys = Counter(line.split()[0] for line in effects.read_text().splitlines())
        assert set(keys) == {str(n) for n in range(JOBS)}
        assert FULL or set(keys.values()) == {1}
        report("B17", scale=f"{JOBS} running, {JOBS} scheduled", faults=flushed)
