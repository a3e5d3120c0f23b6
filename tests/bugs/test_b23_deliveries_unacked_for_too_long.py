"""The broker gives up on a consumer whose deliveries stay unacked for as long as jobs run, or wait in its buffer: the channel
is closed with 406, the worker ends, its jobs start again for ever.

Seen in celery#6760, dive#995 and ServiceX#893. Right: how long a delivery is unacked has nothing to do with how long jobs
run. It is acked with its claim, or, where no slot is free, after 10 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from taskflow.adapters.rabbitmq import RabbitBroker
from taskflow.core.job import Claim, RunsIn
from taskflow.flow.claim import Claimer, Slots
from taskflow.flow.intake import Intake
from taskflow.testing.broker import lane_key, tickets_of
from taskflow.testing.facts import until
from tests.acceptance.cluster import Cluster
from tests.acceptance.system import ROLES
from tests.bug_report import Report
from tests.rabbit import House
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayRabbitMQ

pytestmark = pytest.mark.adapter("rabbitmq")
TICKETS = 30
ENOUGH = 12.0
"""Seconds after which nothing is unacked that is not run."""


class Table:
    """Gives each job that is claimed to whoever claims it; no run of it ever ends."""

    def __init__(self, slots: int) -> None:
        self.free = slots
        self.claimed = 0

    async def claim(self, worker: str, job_ids: Sequence[str], tasks: Sequence[str]) -> list[Claim]:
        self.free -= len(job_ids)
        self.claimed += len(job_ids)
        return []


async def test_the_length_of_jobs_is_not_the_brokers_business(report: Report) -> None:
    """Two slots, whose runs never end, and thirty tickets: once ten seconds are over nothing is unacked, and all are gone."""
    rabbit, now, key, table = House(), [0.0], lane_key(), Table(2)
    intake = Intake(lambda: None, lambda: now[0])
    slots = Slots(lambda kind: table.free if kind is RunsIn.ASYNC else 0)
    claims: Any = table
    claimer = Claimer(claims, intake, slots, worker=lambda: "w", tasks=lambda _: ["t"], start=lambda _: None)
    async with RabbitBroker.from_url(rabbit.url, namespace=rabbit.namespace) as broker:
        await broker.publish(tickets_of(key, TICKETS))
        async with broker.consume([key], 2 * TICKETS, intake.land) as consumption:
            lane = consumption._lanes[key]
            await until(lambda: intake.waiting(RunsIn.ASYNC) > 2)
            await claimer.once()
            assert table.claimed == 2
            held = lane.unacked
            assert held > 0

            async def nothing_left() -> bool:
                now[0] = min(now[0] + 2, ENOUGH)
                await claimer.once()
                return await broker.depth(key) == 0 and lane.unacked == 0

            await until(nothing_left)
        assert table.claimed == 2
        assert await broker.depth(key) == 0
        await rabbit.delete(rabbit.queue(key), rabbit.topology.dead)
    report("B23", scale=f"{TICKETS} tickets for 2 slots", faults=TICKETS - 2)


if FULL:
    SECONDS, JOBS, LIMIT = 40.0, 8, 15

    def test_the_broker_has_no_patience(own_rabbitmq: ThrowawayRabbitMQ, report: Report, cluster: Cluster) -> None:
        """It looks each half second for what is unacked for 15 s; jobs run for 40 s, and others wait as long for a slot."""
        own_rabbitmq.ctl(
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {LIMIT * 1_000}), "
            "application:set_env(rabbit, channel_tick_interval, 500), ok.",
        )
        cluster.environment |= {"TASKFLOW_BROKER_URL": own_rabbitmq.url, "TASKFLOW_CONSUMER_SLOTS": "2"}
        cluster.node(ROLES)
        cluster.ready()
        cluster.submit("demo.sleep", {"seconds": SECONDS}, count=JOBS)
        until_sync(lambda: cluster.count("state = 'succeeded'") == JOBS, SECONDS * JOBS)
        assert cluster.count("epoch = 1 AND attempt = 1") == JOBS
        told = ""
        for log in Path(own_rabbitmq.directory / "log").glob("*.log"):
            with suppress(OSError):
                told += log.read_text()
        assert told
        assert "delivery acknowledgement on channel" not in told
        assert "RabbitMQ (consume) lost" not in cluster.output
        report("B23", scale=f"{JOBS} jobs of {SECONDS:g} s, consumer_timeout {LIMIT} s", faults=JOBS)
