"""Requests with one idempotency key that come at once: two run, or the loser is answered with an error.

Seen in idempot-js#186, oban#1505, grape-idempotency#10 and mastodon#37879: a look and then an insert, or the violation of
uniqueness let through as 500. Right: one job, and every answer is 2xx and names it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import httpx2
import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.core.job import Idempotency
from taskflow.flow.submit import Submitter
from taskflow.ports.store import Inserted
from taskflow.testing.store_facts import job
from tests.acceptance.cluster import Cluster
from tests.adapters.postgres_house import emptied, url_of
from tests.api.house import House, Tickets
from tests.bug_report import Report
from tests.support import FULL, until_sync
from tests.throwaway import free_ports
from tests.throwaway.server import listens

AT_ONCE = 200
ROUNDS = 25 if FULL else 2
REPLICAS = 4


async def test_of_requests_at_once_one_makes_the_job(house: House, report: Report) -> None:
    """The others are answered with it, and say so; in a batch, each item by its own key."""
    for turn in range(ROUNDS):
        body: dict[str, Any] = {"task": "t.any", "payload": {"n": turn}}
        key = {"Idempotency-Key": f"k{turn}"}
        answers = await asyncio.gather(*(house.http.post("/jobs", json=body, headers=key) for _ in range(AT_ONCE)))
        assert Counter(answer.status_code for answer in answers) == {202: 1, 200: AT_ONCE - 1}
        assert len({answer.json()["id"] for answer in answers}) == 1
        key = {"Idempotency-Key": f"b{turn}"}
        batches = await asyncio.gather(
            *(house.http.post("/jobs/batch", json={"jobs": [body] * 5}, headers=key) for _ in range(20))
        )
        items = [[item["job"]["id"] for item in batch.json()["items"]] for batch in batches]
        assert len({tuple(ids) for ids in items}) == 1
        assert len(set(items[0])) == 5
    assert await house.count() == min(200, ROUNDS * 6)
    report("B36", scale=f"{ROUNDS} keys, {AT_ONCE} requests each at once", faults=ROUNDS * (AT_ONCE - 1))


@pytest.mark.adapter("postgresql")
async def test_replicas_agree(schema: str, report: Report) -> None:
    """Each has its own connections and its own group commit; jobs without a key are committed beside."""
    await emptied(schema)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(PostgresStore.from_url(url_of(schema))) for _ in range(REPLICAS)]
        submitters = [Submitter(store, Tickets()) for store in stores]
        for turn in range(ROUNDS):
            once = Idempotency("POST /jobs", f"k{turn}", "the same")
            jobs = [job(idempotency=once if n % 3 else None) for n in range(AT_ONCE)]
            stored: list[Inserted] = await asyncio.gather(
                *(submitters[n % REPLICAS].submit(new) for n, new in enumerate(jobs))
            )
            keyed = [one for one, new in zip(stored, jobs, strict=True) if new.idempotency]
            assert len({one.job_id for one in keyed}) == 1
            assert sum(one.created for one in keyed) == 1
            assert await stores[0].get("default", keyed[0].job_id)
    report("B36", scale=f"{ROUNDS} keys over {REPLICAS} replicas", faults=ROUNDS * (AT_ONCE * 2 // 3 - 1))


@pytest.mark.full
@pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
def test_processes_agree(cluster: Cluster, report: Report) -> None:
    """Four of them behind four ports, over HTTP."""
    ports = [cluster.port, *free_ports(REPLICAS - 1)]
    for port in ports:
        cluster.node("api", port=port)
    cluster.node("consumer")
    for port in ports:
        until_sync(partial(listens, port), 40)
    cluster.ready()
    body = json.dumps({"task": "demo.echo", "payload": {}}).encode()
    with ThreadPoolExecutor(AT_ONCE) as pool, httpx2.Client(timeout=60) as http:

        def post(key: str, n: int) -> httpx2.Response:
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            return http.post(f"http://127.0.0.1:{ports[n % REPLICAS]}/api/v1/jobs", content=body, headers=headers)

        for turn in range(ROUNDS):
            answers = list(pool.map(partial(post, f"k{turn}"), range(AT_ONCE)))
            assert Counter(answer.status_code for answer in answers) == {202: 1, 200: AT_ONCE - 1}
            assert len({answer.json()["id"] for answer in answers}) == 1
    until_sync(lambda: cluster.count("state = 'succeeded'") == ROUNDS == cluster.count("true"), 30)
    report("B36", scale=f"{ROUNDS} keys over {REPLICAS} API processes", faults=ROUNDS * (AT_ONCE - 1))
