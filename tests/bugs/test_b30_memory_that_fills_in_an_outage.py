"""Memory climbs while the broker is away, or with each job that is to run later: buffers without an end.

Seen in celery#3436 and #4843. Right: tickets that cannot go are forgotten beyond a cap; a job of tomorrow is a row and
nothing else. (S3 away, and the figures over minutes: tests/faults/test_outage_memory.py.)
"""

from __future__ import annotations

import asyncio

import pytest

from taskflow.core.errors import BrokerUnavailable
from taskflow.flow.publish import WAITING, Publisher
from taskflow.testing.broker import lane_key, tickets_of
from tests.bug_report import Report
from tests.bugs.behind import Behind
from tests.processes import rss
from tests.support import FULL, until_sync

TOMORROW = 200_000 if FULL else 2_000
SUBMITS = 20_000 if FULL else 1_000
GROWTH = 50 << 20


@pytest.mark.adapter("postgresql", "rabbitmq", "redis")
def test_a_process_does_not_grow(behind: Behind, report: Report) -> None:
    """With the broker away, and with many jobs for tomorrow."""
    cluster, pid = behind.cluster, behind.node.pid
    warm = cluster.submit("test.noop", count=500)
    until_sync(lambda: behind.succeeded(warm), 30)
    before, refused = rss(pid), behind.broker.faults["refused"]
    behind.part(behind.broker)
    ids = cluster.submit("test.noop", count=SUBMITS)
    cluster.submit("test.noop", count=TOMORROW, delay="1d")
    until_sync(lambda: behind.broker.faults["refused"] > refused, 20)
    within = rss(pid)
    behind.join(behind.broker)
    until_sync(lambda: behind.succeeded(ids), 120)
    until_sync(lambda: cluster.http.get("/health/ready").status_code == 200, 30)
    assert within - before < GROWTH
    assert rss(pid) - before < GROWTH
    assert cluster.count("state = 'scheduled'", "jobs") >= TOMORROW
    cluster.sql(f"DELETE FROM \"{cluster.namespace}\".jobs WHERE state = 'scheduled'")
    report(
        "B30",
        scale=f"{SUBMITS} submits, {TOMORROW} for tomorrow: {(within - before) / 2**20:+.1f} MiB",
        faults=behind.broker.faults["refused"] - refused,
    )


class Away:
    """A broker that is."""

    async def publish(self, tickets: object, *, share: int = 1) -> None:
        raise BrokerUnavailable("away")


async def test_tickets_beyond_the_cap_are_forgotten_and_counted(report: Report) -> None:
    """Their rows are drawn."""
    publisher = Publisher(Away())  # type: ignore[arg-type]
    tickets = tickets_of(lane_key(), 1_000)
    publishing = asyncio.create_task(publisher.run())
    for _ in range(3 * WAITING // len(tickets)):
        publisher.offer(tickets)
    assert len(publisher._waiting) == WAITING
    assert publisher.forgotten == 2 * WAITING
    publishing.cancel()
    report("B30", scale=f"{3 * WAITING} tickets", faults=publisher.forgotten)
