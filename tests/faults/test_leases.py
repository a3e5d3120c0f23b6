"""Workers that die, come back from the dead, or are cut off: each job is closed once, and nobody is taken over who might
still work. The figures are reported; `TASKFLOW_TEST_FULL=1` has them at full scale."""

from __future__ import annotations

import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, Node
from tests.effects import recorded
from tests.faults import witness
from tests.figures import Say
from tests.support import FULL, until_sync
from tests.throwaway.proxy import Proxy, ProxyThread, through

four = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
LEASE, SWEEP = 2.0, 0.5
NOISE = 1.0 if FULL else 5.0
"""Seconds that a sweep may come late on a busy machine."""
KILLS, KILLED = (10, 100) if FULL else (1, 20)
ZOMBIES = 100 if FULL else 10
ROUNDS = 5 if FULL else 1


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API and a scheduler that stay, for consumers that do not."""
    settings = witness.SETTINGS | {"TASKFLOW_CONSUMER_LEASE": f"{LEASE:g}"}
    with Cluster(tmp_path_factory.mktemp("leases"), **settings) as cluster:
        cluster.node("api,scheduler")
        yield cluster


@pytest.fixture
def cluster(house: Cluster) -> Iterator[Cluster]:
    """The same, with no job and no consumer of another test."""
    yield house
    for node in house.nodes:
        if node.roles == "consumer" and node.runs:
            node.kill()
            node.process = None
    for table in ("jobs", "finished", "attempts", "workers"):
        house.sql(f'DELETE FROM "{house.namespace}".{table}')


def attempts(cluster: Cluster, where: str) -> list[Any]:
    """Closing records."""
    return cluster.sql(
        f"SELECT job_id, epoch, outcome, worker, extract(epoch FROM finished_at)::float8 AS at "
        f'FROM "{cluster.namespace}".attempts WHERE {where}'
    )


def closed_once(cluster: Cluster, count: int) -> None:
    """So many jobs have succeeded, each by one attempt."""
    assert Counter(row["job_id"] for row in attempts(cluster, "outcome = 'succeeded'")) == Counter(
        row["id"] for row in cluster.sql(f'SELECT id FROM "{cluster.namespace}".finished')
    )
    assert cluster.count("state = 'succeeded'") == count == cluster.count("true")
    assert cluster.count("true", "jobs") == 0


def until_closed(cluster: Cluster, where: str, count: int) -> list[Any]:
    """Wait for so many closing records."""
    return until_sync(lambda: (found := attempts(cluster, where)) and len(found) == count and found, 60) or []


def until_succeeded(cluster: Cluster, count: int) -> None:
    """Wait until so many jobs have."""
    until_sync(lambda: cluster.count("state = 'succeeded'") == count, 60)


def witnessed(cluster: Cluster, seconds: float, count: int, later: float = 0.0) -> Path:
    """Submit jobs that write down what becomes of them; where they do."""
    path = cluster.directory / f"witness{time.monotonic_ns()}"
    jobs = [
        {"task": "witness.sleep", "payload": {"path": str(path), "key": f"k{n}", "seconds": seconds, "later": later}}
        for n in range(count)
    ]
    assert cluster.http.post("/jobs/batch", json={"jobs": jobs}).status_code == 207
    return path


def was_dead(node: Node, times: int) -> bool:
    """Whether a worker has learnt so often that it was declared dead."""
    return node.output.count("was declared dead") == times


def until_begun(path: Path, count: int) -> None:
    """Wait until so many handlers have."""
    until_sync(lambda: sum(line.what == "began" for line in recorded(path)) == count, 30)


@four
def test_jobs_of_a_killed_worker_are_rescued_within_lease_and_sweep(cluster: Cluster, say: Say) -> None:
    """Counted from the kill, for each of them."""
    took: list[float] = []
    doomed = cluster.node("consumer")
    cluster.ready()
    path = witnessed(cluster, 1_000.0, KILLED, later=1_000.0)
    for number in range(1, KILLS + 1):
        until_begun(path, number * KILLED)
        # Where they run apart, for being suspects, they do so one by one: nobody is one here.
        cluster.sql(f'UPDATE "{cluster.namespace}".jobs SET crashes = 0')
        doomed.kill()
        killed = time.time()
        doomed.start()
        since = f"outcome = 'crashed' AND extract(epoch FROM finished_at) > {killed}"
        took += [row["at"] - killed for row in until_closed(cluster, since, KILLED)]
    assert len(took) == KILLS * KILLED
    say(
        f"rescue of {len(took)} jobs after kill -9",
        f"p50 {statistics.median(took):.2f} s, max {max(took):.2f} s (lease and sweep: {LEASE + SWEEP:g} s)",
    )
    assert max(took) < LEASE + SWEEP + NOISE


@four
def test_a_worker_that_was_buried_alive_settles_nothing_and_works_on(cluster: Cluster, say: Say) -> None:
    """It is stopped for longer than its lease: what it ends afterwards is refused and counted, its jobs run again."""
    zombie = cluster.node("consumer")
    cluster.ready()
    refused = 0
    for number in range(1, ROUNDS + 1):
        # Over while nobody looks, so that their ends are the first thing that is settled.
        path = witnessed(cluster, 2.0, ZOMBIES)
        until_begun(path, ZOMBIES)
        [before] = cluster.alive()
        zombie.signal(signal.SIGSTOP)
        crashed = f"worker = '{before['id']}' AND outcome = 'crashed'"
        until_closed(cluster, crashed, ZOMBIES)
        zombie.signal(signal.SIGCONT)
        until_succeeded(cluster, number * ZOMBIES)
        assert {row["outcome"] for row in attempts(cluster, f"worker = '{before['id']}' AND epoch = 1")} == {"crashed"}
        until_sync(partial(was_dead, zombie, number), 20)
        refused = zombie.output.count("no longer ours")
    closed_once(cluster, ROUNDS * ZOMBIES)
    say("late settles of workers that were stopped", f"{refused} refused, of {ROUNDS * ZOMBIES} runs; accepted: 0")
    assert refused == ROUNDS * ZOMBIES


def behind(cluster: Cluster, proxy: ProxyThread) -> Node:
    """A consumer that reaches PostgreSQL through a proxy only."""
    return cluster.node("consumer", TASKFLOW_STORE_URL=through(cluster.environment["TASKFLOW_STORE_URL"], proxy))


@four
def test_a_worker_that_is_cut_off_stops_its_runs_before_anybody_takes_them(cluster: Cluster, say: Say) -> None:
    """Nothing passes between it and PostgreSQL: each handler is told to stop before its row is rescued, and when the
    network is back the worker is another one."""
    with ProxyThread.before(cluster.database) as proxy:
        cut_off = behind(cluster, proxy)
        cluster.ready()
        margins: list[float] = []
        for number in range(1, ROUNDS + 1):
            path = witnessed(cluster, 6.0, ZOMBIES)
            until_begun(path, ZOMBIES)
            [before] = cluster.alive()
            proxy.do(Proxy.freeze)
            crashed = f"worker = '{before['id']}' AND outcome = 'crashed'"
            taken = min(row["at"] for row in until_closed(cluster, crashed, ZOMBIES))
            stopped = [line.when for line in recorded(path) if line.what == "stopped"]
            assert len(stopped) == ZOMBIES
            margins += [taken - when for when in stopped]
            proxy.do(Proxy.thaw)
            until_succeeded(cluster, number * ZOMBIES)
        assert proxy.faults["frozen requests"] > 0
        before_takeover = sum(margin > 0 for margin in margins)
        say(
            "cut off from PostgreSQL",
            f"{before_takeover} of {len(margins)} runs stopped before takeover, by at least {min(margins):.2f} s",
        )
        assert before_takeover == len(margins)
        closed_once(cluster, ROUNDS * ZOMBIES)
        assert cut_off.output.count("was declared dead") == ROUNDS


@pytest.mark.full
def test_replies_of_postgresql_that_are_lost_lose_nothing(cluster: Cluster, say: Say) -> None:
    """With their connections, in the middle of whatever: each job is closed once, and no attempt is charged that was not
    made."""
    with ProxyThread.before(cluster.database) as proxy:
        consumer = behind(cluster, proxy)
        # One that cannot start ends, and somebody starts it again.
        until_sync(lambda: consumer.started, 20)
        cluster.ready()
        began = 0
        for number in range(1, 61):
            proxy.do(Proxy.lose)
            path = witnessed(cluster, 0.02, 10)
            until_succeeded(cluster, 10 * number)
            until_sync(lambda: proxy.do(lambda it: it.losing == 0), 20)
            began += sum(line.what == "began" for line in recorded(path))
        lost = proxy.faults["lost"]
    say("600 jobs over lost replies", f"{lost} lost, {began - 600} runs more than jobs")
    closed_once(cluster, 600)
    assert cluster.count("attempt = 1") == 600
    assert consumer.runs
    assert lost == 60
