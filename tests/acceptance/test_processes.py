"""`--processes`: several of one kind that share a port. One that dies is started anew, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.acceptance.cluster import Cluster, Node, bare
from tests.acceptance.load import Load, all_finish_once, reached
from tests.figures import Say
from tests.support import FULL, until_sync
from tests.throwaway import free_ports

real = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
ROLES = "api,consumer,scheduler"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Servers and a schema; two processes of each kind."""
    with Cluster(tmp_path, TASKFLOW_PROCESSES="2") as made:
        yield made
        for node in made.nodes:
            for pid in members(node):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def members(node: Node) -> list[int]:
    """The processes that a parent has started."""
    path = Path(f"/proc/{node.pid}/task/{node.pid}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def runs(pid: int) -> bool:
    """Whether a process is there, and is more than a name."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def replaced(cluster: Cluster, node: Node, victim: int) -> bool:
    """Whether a parent has two members at work again, and this one is none of them."""
    now = set(members(node))
    return victim not in now and len({worker["pid"] for worker in cluster.alive()} & now) == 2


@real
def test_one_that_is_killed_is_started_anew_and_costs_its_own_requests_only(cluster: Cluster, say: Say) -> None:
    """Under load (each in turn at full scale): nobody is refused, what was accepted is done once, and all work again."""
    node = cluster.node(ROLES)
    cluster.ready(workers=2)
    first = members(node)
    assert len(first) == 2
    with Load([cluster.port], pause=0.01) as load:
        for victim in first if FULL else first[:1]:
            until_sync(partial(reached, load, len(load.accepted) + 50), 30)
            os.kill(victim, signal.SIGKILL)
            until_sync(partial(replaced, cluster, node, victim), 30)
    say("killed members", f"{len(load.accepted)} accepted, {len(load.failures)} answers lost with them")
    assert load.refused == 0
    # An answer that died with its process may have been a job.
    assert len(load.failures) <= 16
    lost = len(load.failures)
    until_sync(lambda: cluster.count("state = 'succeeded'") >= len(load.accepted), 60)
    until_sync(lambda: cluster.count("true", "jobs") == 0, 60)
    ids = {str(row[0]) for row in cluster.sql(f'SELECT id FROM "{cluster.namespace}".finished')}
    assert set(load.accepted) <= ids
    assert len(ids) <= len(load.accepted) + lost
    assert cluster.count("true") == len(ids)
    assert node.output.count("started anew") == (2 if FULL else 1)
    assert node.stop() == 0


@real
def test_a_stop_ends_all_and_fails_nobody(cluster: Cluster) -> None:
    """Both share the connections, and both end what they have begun; the exit code is 0."""
    node = cluster.node(ROLES)
    cluster.ready(workers=2)
    both = members(node)
    hands = f'SELECT count(DISTINCT worker_id) FROM "{cluster.namespace}".finished'
    with Load([cluster.port], pause=0.01) as load:
        until_sync(lambda: reached(load, 100), 30)
        until_sync(lambda: cluster.sql(hands)[0][0] == 2, 30)
        assert node.stop() == 0
    assert load.failures == []
    assert not any(map(runs, both))
    node.start()
    cluster.ready(workers=2)
    all_finish_once(cluster, load)


@real
def test_one_that_leaves_holds_up_nobody_and_is_let_end(cluster: Cluster) -> None:
    """New connections go to the other one while it lets its runs end; told twice, as by who tells a whole service, it does not
    leave them either."""
    node = cluster.node(ROLES)
    cluster.ready(workers=2)
    leaver, other = members(node)
    jobs = cluster.submit("demo.sleep", {"seconds": 3}, 20)
    until_sync(lambda: cluster.count("state = 'running'", "jobs") == 20, 20)
    os.kill(leaver, signal.SIGTERM)
    os.kill(leaver, signal.SIGTERM)
    slowest = 0.0
    while leaver in members(node):
        asked = time.monotonic()
        assert httpx2.get(f"{cluster.http.base_url}health/live").status_code == 200
        slowest = max(slowest, time.monotonic() - asked)
    assert slowest < 2
    until_sync(lambda: cluster.count("state = 'succeeded'") == len(jobs), 30)
    assert cluster.count("interruptions > 0") == 0
    for pid in (node.pid, other):
        os.kill(pid, signal.SIGTERM)
    assert node.wait() == 0


@real
def test_none_outlives_its_parent(cluster: Cluster) -> None:
    """Nobody would end it or start it anew. What it ran is ended in the usual way, and the port is free."""
    node = cluster.node(ROLES)
    cluster.ready(workers=2)
    both = members(node)
    job = cluster.submit("demo.sleep", {"seconds": 0.5})[0]
    until_sync(lambda: cluster.job(job)["state"] == "running", 20)
    node.kill()
    until_sync(lambda: not any(map(runs, both)), 30)
    assert cluster.count(f"id = '{job}' AND state = 'succeeded'") == 1
    node.start()
    cluster.ready(workers=2)
    assert node.stop() == 0


@real
def test_what_cannot_start_says_so_and_ends(cluster: Cluster) -> None:
    """It is not tried again and again: whoever started it hears of it."""
    taken = cluster.node("api")
    until_sync(lambda: taken.started, 30)
    again = cluster.node("api")
    assert again.wait() == 1
    assert f"cannot listen on 127.0.0.1:{cluster.port}" in again.output
    broken = cluster.node("consumer", TASKFLOW_TASKS_MODULES="no_such_module")
    assert broken.wait() == 1
    assert "no_such_module" in broken.output
    assert "started anew" not in broken.output
    assert taken.stop() == 0


def test_what_one_process_alone_can_use_is_refused(tmp_path: Path) -> None:
    """The embedded adapters are of one process."""
    [port] = free_ports(1)
    done = subprocess.run(
        [sys.executable, "-m", "taskflow", "run", "--processes", "2", "--port", str(port)],
        cwd=tmp_path, env=bare(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "processes is 2" in done.stderr
    for name in ("store.url sqlite:", "broker.url memory:", "events.url memory:"):
        assert name in done.stderr
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"http://127.0.0.1:{port}/")
