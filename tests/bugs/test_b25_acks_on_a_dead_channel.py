"""A message is acked on a channel that has died meanwhile: the error comes for ever, and the worker takes no new work.

Seen in taskiq-aio-pika#46. Right: what was delivered on a dead channel is settled by nobody, and comes again to find its job
claimed; each job is closed once; new jobs start soon after the link is back.
"""

from __future__ import annotations

import time

import pytest

from tests.bug_report import Report
from tests.bugs.behind import Behind
from tests.support import FULL, until_sync
from tests.throwaway.proxy import Proxy

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis")
AWAY = 10.0 if FULL else 0.5
ROUNDS = 10 if FULL else 1


def test_the_link_is_cut_while_jobs_run(behind: Behind, report: Report) -> None:
    """Twenty that run, and twenty more whose tickets were delivered."""
    cluster, cuts = behind.cluster, behind.broker.faults["cut"]
    every: list[str] = []
    for _ in range(ROUNDS):
        until_sync(behind.ready, 20)
        ids = cluster.submit("demo.sleep", {"seconds": AWAY + 0.5}, count=20)
        until_sync(lambda: cluster.count("state = 'running'", "jobs") >= 20, 20)
        ids += cluster.submit("demo.echo", count=20)
        behind.part(behind.broker)
        end = time.monotonic() + AWAY
        until_sync(lambda end=end: time.monotonic() > end, AWAY + 5)  # type: ignore[misc]
        behind.join(behind.broker)
        back = time.monotonic()
        [new] = cluster.submit("demo.echo")
        assert cluster.job(new, wait=15)["state"] == "succeeded"
        assert time.monotonic() - back < 15
        until_sync(behind.ready, 20)
        every += [*ids, new]
        # Once more where nothing keeps the client from coming back at once.
        behind.broker.do(Proxy.cut)
    until_sync(lambda: behind.succeeded(every), 30)
    once = "', '".join(every)
    assert cluster.count(f"id IN ('{once}') AND epoch = 1 AND attempt = 1 AND crashes = 0") == len(every)
    assert "Traceback" not in behind.node.output
    met = behind.broker.faults["cut"] - cuts
    assert met >= 2 * ROUNDS, "a link that is not up cannot be cut"
    report("B25", scale=f"{len(every)} jobs", faults=met)
