"""A call of the database is stalled by a network that says nothing: the loop that awaits it hangs for ever, and what it did
by the clock is not done any more until a restart.

Seen in River's change log (PR#1251). Right: each call has a deadline, whichever loop makes it; each loop goes on when the
network does, without a restart; a replica elsewhere does not wait for it at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.adapters.sql.postgres.database import CALL_SECONDS, Database
from taskflow.core.errors import StoreUnavailable
from taskflow.core.job import Outcome
from taskflow.testing.store import claimed, end, job, worker
from tests import servers
from tests.adapters.postgres_house import emptied, url_of
from tests.bug_report import Report
from tests.bugs.behind import Behind
from tests.support import FULL, until_sync
from tests.throwaway.proxy import Proxy, through

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis")
STALLED = 120.0 if FULL else 3.0
BACK = 30.0


def test_every_loop_goes_on(behind: Behind, report: Report) -> None:
    """A job falls due while nothing passes: promoted, claimed, run and settled soon after. What ran meanwhile ends as ever."""
    cluster, store = behind.cluster, behind.store
    before = store.faults["frozen requests"]
    running = cluster.submit("demo.sleep", {"seconds": 1.0}, count=5)
    due = cluster.submit("demo.echo", {"due": True}, count=20, delay=1)
    until_sync(lambda: cluster.count("state = 'running'", "jobs") == len(running), 20)
    store.do(Proxy.freeze)
    end_at = time.monotonic() + STALLED
    other = cluster.place("scheduler") if FULL else None
    if other is not None:
        # It has a way of its own to the database.
        other.environment["TASKFLOW_STORE_URL"] = f"{cluster.database}?schema={cluster.namespace}"
        other.start()
        until_sync(lambda: cluster.count("state = 'scheduled'", "jobs") == 0, 30)
    until_sync(lambda: time.monotonic() > end_at and store.faults["frozen requests"] > before, STALLED + 20)
    store.do(Proxy.thaw)
    healed = time.monotonic()
    until_sync(lambda: cluster.count("state = 'scheduled'", "jobs") == 0, BACK)
    everything = [*running, *due]
    found = "', '".join(everything)
    until_sync(lambda: cluster.count(f"id IN ('{found}') AND state = 'succeeded'") == len(everything), 2 * BACK)
    back = time.monotonic() - healed
    until_sync(lambda: cluster.http.get("/health/ready").status_code == 200, BACK)
    if other is not None:
        other.stop()
    faults = store.faults["frozen requests"] - before
    report("B34", scale=f"{STALLED:g} s without a word, all done {back:.1f} s after it", faults=faults)


async def test_every_call_has_a_deadline(report: Report, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the store is asked for."""
    longest = CALL_SECONDS if FULL else 2.5
    for method in (Database.run, Database.fetch):
        assert method.__kwdefaults__
        monkeypatch.setitem(method.__kwdefaults__, "within", longest)
    await emptied(schema)
    async with Proxy.before(servers.POSTGRES) as proxy:
        url = through(url_of(schema, pool_size="30", sslmode="disable"), proxy)
        async with PostgresStore.from_url(url) as store:
            me = await worker(store)
            claim = await claimed(store, me)
            # Each has a connection, so that each is stalled in what it does and not at the pool.
            await asyncio.gather(*(store._db.fetch("SELECT pg_sleep(0.1)") for _ in range(30)))
            proxy.freeze()
            calls: dict[str, Awaitable[object]] = {
                "insert": store.insert([job()]),
                "get": store.get("default", claim.id),
                "cancel": store.cancel("default", claim.id),
                "replay": store.replay("default", claim.id),
                "purge": store.purge("default", [claim.id]),
                "progress": store.set_progress([(claim.id, claim.epoch, me, "{}")]),
                "claim": store.claim(me, [claim.id], ["t"]),
                "settle": store.settle([end(claim, Outcome.SUCCEEDED)]),
                "beat": store.beat(me),
                "release": store.release(me, [(claim.id, claim.epoch)]),
                "stop": store.stop(me),
                "promote": store.promote(),
                "sweep": store.sweep(30),
                "retain": store.retain(86_400),
                "tasks": store.tasks(),
                "queues": store.queues(),
                "workers": store.workers(),
                "segments": store.segments(claim.id),
                "ping": store.ping(),
            }
            began = time.monotonic()
            answers = await asyncio.gather(*calls.values(), return_exceptions=True)
            took = time.monotonic() - began
            others = [name for name, answer in zip(calls, answers, strict=True) if type(answer) is not StoreUnavailable]
            assert [name for name in others if not isinstance(answers[list(calls).index(name)], StoreUnavailable)] == []
            assert took < longest + 3
            proxy.thaw()
            proxy.cut()
            await store.ping()
            report("B34", scale=f"{len(calls)} calls, the last given up after {took:.1f} s", faults=len(calls))
