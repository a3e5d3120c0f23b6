"""A limit counted by fixed windows lets twice as much through across the edge between two of them.

Seen in plausible/analytics#6497 and buzz#3477. Right: in any stretch of time no more than the burst and what the rate adds
in it, over all replicas together; whoever waits as Retry-After says is let in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from taskflow.adapters.pyrate import MemoryLimiter
from taskflow.adapters.pyrate.redis import RedisLimiter
from taskflow.ports.limiter import Rate
from tests.adapters.conftest import redis_namespace, redis_url
from tests.api.house import opened
from tests.bug_report import Report
from tests.support import FULL

__all__ = ["redis_namespace", "redis_url"]

A_MINUTE = Rate(limit=100, period=60.0, burst=100)
WINDOWS = 100 if FULL else 10
REPLICAS = 4
SECONDS = 30.0 if FULL else 2.0


def most(times: Sequence[float], stretch: float) -> int:
    """How many of these sorted instants lie in a stretch of time at most."""
    first = largest = 0
    for last, moment in enumerate(times):
        while times[first] < moment - stretch:
            first += 1
        largest = max(largest, last - first + 1)
    return largest


async def test_no_stretch_of_time_holds_twice_the_limit(report: Report) -> None:
    """A hundred just before the edge of each minute and a hundred just after it: the burst, and a second's refill."""
    now, let_in, asked = 0.0, [], 0
    async with MemoryLimiter(clock=lambda: now) as limiter:
        for window in range(1, WINDOWS + 1):
            for moment in (window * 60 - 0.5, window * 60 + 0.5):
                now = moment
                for _ in range(100):
                    asked += 1
                    if (await limiter.check("k", A_MINUTE)).allowed:
                        let_in.append(now)
    assert most(let_in, 1.0) <= 100 + 2
    for minutes in (1, 2, 5):
        assert most(let_in, minutes * 60.0) <= 100 + minutes * 100 + 2
    report("B40", scale=f"{WINDOWS} edges of minutes, 200 requests around each", faults=asked - len(let_in))


@pytest.mark.adapter("redis")
async def test_replicas_share_the_limit(redis_url: str, redis_namespace: str, report: Report) -> None:
    """Four processes' limiters on one Redis, all asking all the time across many periods."""
    rate, let_in, refused = Rate(limit=50, period=0.5, burst=50), [], 0
    over = time.monotonic() + SECONDS

    async def client(limiter: RedisLimiter) -> None:
        nonlocal refused
        while time.monotonic() < over:
            verdict = await limiter.check("k", rate)
            if verdict.allowed:
                let_in.append(time.monotonic())
            else:
                refused += 1

    async with AsyncExitStack() as stack:
        limiters = [
            await stack.enter_async_context(RedisLimiter.from_url(redis_url, namespace=redis_namespace))
            for _ in range(REPLICAS)
        ]
        began = time.monotonic()
        await asyncio.gather(*(client(limiter) for limiter in limiters for _ in range(4)))
    # Over all of the time: how late an answer was heard on a busy machine moves instants, not sums.
    assert len(let_in) <= 50 + (time.monotonic() - began) * 100 + 2
    report("B40", scale=f"{REPLICAS} replicas over {SECONDS:.0f} s", faults=refused)


async def test_who_waits_as_told_is_let_in(tmp_path: Path, report: Report) -> None:
    """The header of the answer is honest for requests and for whole batches."""
    refused, now, rate = 0, 0.0, Rate(limit=7, period=3.0, burst=11)
    async with MemoryLimiter(clock=lambda: now) as limiter, opened(tmp_path, limiter=limiter, rate=rate) as house:
        for turn in range(WINDOWS):
            cost = turn % 11 + 1
            body = {"jobs": [{"task": "t.any"}] * cost}
            while (answer := await house.http.post("/jobs/batch", json=body)).status_code == 207:
                now += 0.01
            assert answer.status_code == 429
            refused += 1
            now += int(answer.headers["retry-after"])
            assert (await house.http.post("/jobs/batch", json=body)).status_code == 207
    report("B40", scale=f"{refused} refusals, waited out by a clock of ours", faults=refused)
