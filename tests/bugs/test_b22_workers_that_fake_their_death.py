"""A worker that nobody hears is taken for dead and its job given to another; then it comes back, and both finish.

Seen in dolphinscheduler#8110. Right: it stops what it runs by its own clock before its lease is over; what it settles after
its return is refused; one completion is accepted.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.core.job import Outcome, State
from taskflow.ports.store import WorkerInfo
from taskflow.roles.worker import Lease, Worker
from taskflow.testing.store_facts import LANE, end, job, shown
from tests import servers
from tests.acceptance.cluster import Cluster
from tests.adapters.postgres_house import emptied, url_of
from tests.bug_report import Report
from tests.support import FULL, until, until_sync
from tests.throwaway.proxy import Proxy, ProxyThread, through

LEASE = Lease(length=4.0, beat=1.0, fence=3.0) if FULL else Lease(length=2.0, beat=0.5, fence=1.5)
PARTITIONS = 5


@pytest.mark.adapter("postgresql")
async def test_it_stops_before_another_takes_over(schema: str, report: Report) -> None:
    """A worker whose network swallows everything both ways, beside sweeps that never rest."""
    await emptied(schema)
    fenced: list[float] = []
    async with (
        Proxy.before(servers.POSTGRES) as proxy,
        PostgresStore.from_url(url_of(schema)) as store,
        PostgresStore.from_url(through(url_of(schema, sslmode="disable"), proxy)) as far,
    ):
        worker = Worker(
            far,
            far.heart,
            LEASE,
            describe=lambda name: WorkerInfo(
                id=name, host="h", pid=1, queues=(), tasks=("t",), slots={}, lease=LEASE.length
            ),
            heard=lambda *_: None,
            fence=lambda: fenced.append(time.monotonic()),
            tickets=lambda _: None,
            announce=lambda: far.publish_tasks([]),
        )
        await worker.register()
        zombie, new = worker.id, job()
        await store.insert([new])
        [old] = await store.claim(zombie, [new.id], ["t"])
        # The heart has a connection, and sweeps have no gap: nobody is in grace.
        begun = worker.last_beat
        await until(lambda: worker.last_beat > begun)
        while (await store.sweep(LEASE.length / 2)).in_grace:
            assert not fenced
        proxy.freeze()
        dead: list[str] = []

        async def swept() -> bool:
            dead.extend((await store.sweep(LEASE.length / 2)).dead_workers)
            return zombie in dead

        over: bool = await until(swept, 5 * LEASE.length)
        assert over
        assert fenced, "declared dead before it had stopped what it ran"
        await store.register(
            WorkerInfo(id="other", host="h", pid=1, queues=(), tasks=("t",), slots={}, lease=LEASE.length)
        )
        [again] = await store.draw("other", [LANE], ["t"], 1)
        assert (again.id, again.epoch) == (new.id, 2)
        proxy.thaw()
        await until(lambda: worker.id != zombie, 20)
        [late] = await far.settle([end(old, Outcome.SUCCEEDED, result='"late"')])
        assert late.state is None
        [accepted] = await store.settle([end(again, Outcome.SUCCEEDED, result='"accepted"')])
        assert accepted.state is State.SUCCEEDED
        [late] = await far.settle([end(old, Outcome.SUCCEEDED, result='"later"')])
        assert late.state is None
        found = await shown(store, new.id)
        assert found.result == '"accepted"'
        assert [attempt.outcome for attempt in found.attempts] == [Outcome.CRASHED, Outcome.SUCCEEDED]
        await worker.stop()
    report("B22", scale=f"one partition, a lease of {LEASE.length:g} s", faults=proxy.faults["frozen requests"])


@pytest.mark.full
@pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
def test_a_process_that_is_cut_off(tmp_path: Path, report: Report) -> None:
    """From PostgreSQL and RabbitMQ for three leases, five times; what it ran is done by another, once."""
    with Cluster(tmp_path) as cluster, ExitStack() as stack:
        store, broker = cluster.environment["TASKFLOW_STORE_URL"], cluster.broker
        proxies = [stack.enter_context(ProxyThread.before(url)) for url in (store, broker)]
        cluster.node("api,scheduler")
        cluster.node("consumer", TASKFLOW_CONSUMER_SLOTS="2")
        far = cluster.node(
            "consumer",
            TASKFLOW_STORE_URL=through(f"{store}&sslmode=disable", proxies[0]),
            TASKFLOW_BROKER_URL=through(broker, proxies[1]),
        )
        cluster.ready(2)
        jobs, accepted = 40, 0
        for _ in range(PARTITIONS):
            until_sync(lambda: len(cluster.alive()) == 2, 40)
            cluster.submit("demo.sleep", {"seconds": 2}, count=jobs)
            until_sync(partial(runs, cluster, far.pid), 30)
            for proxy in proxies:
                proxy.do(Proxy.freeze)
            over = time.monotonic() + 12
            until_sync(lambda: len(cluster.alive()) == 1, 30)
            until_sync(partial(passed, over), 20)
            for proxy in proxies:
                proxy.do(Proxy.thaw)
            accepted += jobs
            until_sync(partial(succeeded, cluster, accepted), 120)
        assert cluster.count("true", "jobs") == 0
        doubles = cluster.sql(
            f"SELECT job_id FROM {cluster.namespace}.attempts WHERE outcome = 'succeeded' GROUP BY 1 HAVING count(*) > 1"
        )
        assert doubles == []
        crashed = cluster.count("outcome = 'crashed'", "attempts")
        assert crashed > 0
        assert far.runs
        met = sum((proxy.do(lambda one: Counter(one.faults)) for proxy in proxies), Counter[str]())
        assert met["frozen requests"] > 0
        report(
            "B22",
            scale=f"{PARTITIONS} partitions of 3 leases, {accepted} jobs, {crashed} taken over",
            faults=PARTITIONS,
        )


def passed(moment: float) -> bool:
    """Whether it is so late."""
    return time.monotonic() > moment


def runs(cluster: Cluster, pid: int) -> bool:
    """Whether a process runs some jobs."""
    return cluster.count(f"state = 'running' AND worker_id LIKE '%-{pid}-%'", "jobs") > 3


def succeeded(cluster: Cluster, count: int) -> bool:
    """Whether so many jobs have."""
    return cluster.count("state = 'succeeded'") == count
