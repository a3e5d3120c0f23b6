"""A long outage: the count of failures passes what a float can double to, the error is raised where errors are handled, and
the loop is gone for good.

Seen in PostHog PR#79379. Right: every pause is clamped before the power is taken; every loop lives on and works again when
what it needs is back; an outage is told once, and its end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.adapters.rabbitmq import RabbitBroker, calls, link
from taskflow.adapters.shared import redis_link
from taskflow.adapters.shared.redis_link import RedisLink
from taskflow.adapters.sql import PostgresStore
from taskflow.core.errors import StoreUnavailable
from taskflow.core.outage import Outage, backoff
from taskflow.flow.loops import Bell, keep
from tests import servers
from tests.adapters.postgres_house import url_of
from tests.bug_report import Report
from tests.support import FULL, until
from tests.throwaway.proxy import Proxy, through

FAILURES = 10_000 if FULL else 1_100
"""2.0 ** 1024 is no float any more."""
COUNTS = st.one_of(st.integers(1, 2_000), st.integers(1, 10**30))


@given(COUNTS, st.floats(1e-9, 1e6), st.floats(1e-9, 1e9))
def test_a_pause_is_a_pause_after_any_number_of_failures(failures: int, base: float, cap: float) -> None:
    """Above nothing, and at most the cap; whoever makes it."""
    assert 0 < backoff(failures, base, cap) <= cap
    assert 0 < calls.pause(failures, cap) <= cap


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What people would read."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class Impatient(Bell):
    """Notes how long it was to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    async def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)


async def test_a_loop_survives(
    report: Report, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that it knows and errors that nobody knows, more often than a float can count in powers of two."""
    monkeypatch.setattr("taskflow.flow.loops.AT_LEAST", 0.0)
    bell, rounds, over = Impatient(), 0, "the test is over"

    async def once() -> float:
        nonlocal rounds
        rounds += 1
        if rounds <= FAILURES:
            raise StoreUnavailable("away") if rounds % 2 else RuntimeError("nobody knows")
        if rounds > FAILURES + 3:
            raise KeyboardInterrupt(over)
        return 1.0

    with pytest.raises(KeyboardInterrupt, match=over):
        await keep("a loop", once, bell)
    assert max(bell.pauses) <= 15
    assert [line.partition(" ")[2] for line in told(caplog)] == [
        "loop lost: away",
        f"loop is back after {FAILURES} failures",
    ]
    report("B11", scale=f"{FAILURES} failures of a loop", faults=FAILURES)


async def test_a_bell_that_rings_makes_no_failing_loop_spin(report: Report) -> None:
    """As the bell of tickets that come while the database is away."""
    bell, rounds = Bell(), 0

    async def once() -> float:
        nonlocal rounds
        rounds += 1
        bell.ring()
        if rounds == 3:
            raise KeyboardInterrupt
        raise StoreUnavailable("away")

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        await keep("a loop", once, bell)
    assert time.monotonic() - began >= 0.05 + 0.1
    report("B11", scale="a bell without rest", faults=rounds)


@pytest.mark.adapter("postgresql")
async def test_a_store_is_back_at_once(report: Report, schema: str) -> None:
    """Its pool keeps no count at all."""
    async with (
        Proxy.before(servers.POSTGRES) as proxy,
        PostgresStore.from_url(through(url_of(schema, sslmode="disable"), proxy)) as store,
    ):
        proxy.part()
        refused = 0
        for _ in range(FAILURES):
            with pytest.raises(StoreUnavailable):
                await store.ping()
            refused += 1
        proxy.refuse(False)
        await store.ping()
        report("B11", scale=f"PostgreSQL asked {refused} times", faults=proxy.faults["refused"])


def hasty(monkeypatch: pytest.MonkeyPatch, place: object, name: str, real: Callable[..., float]) -> list[float]:
    """Let pauses be found as ever and not be waited for."""
    pauses: list[float] = []

    def pause(*arguments: float, **named: float) -> float:
        pauses.append(real(*arguments, **named))
        return 0.0

    monkeypatch.setattr(place, name, pause)
    return pauses


@pytest.mark.adapter("rabbitmq")
async def test_links_to_rabbitmq_come_back(
    report: Report, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both of them, and each is told once."""
    pauses = hasty(monkeypatch, link, "pause", calls.pause)
    async with Proxy.before(servers.AMQP) as proxy:
        async with RabbitBroker.from_url(through(servers.AMQP, proxy), namespace="b11") as broker:
            proxy.part()
            await until(lambda: proxy.faults["refused"] > 2 * FAILURES, 60)
            proxy.refuse(False)
            await until(lambda: broker._publish_link.connection and broker._consume_link.connection)
            await broker.ping()
        assert max(pauses) <= 3
        assert len([line for line in told(caplog) if "RabbitMQ" in line]) == 4
        report("B11", scale="RabbitMQ, both links", faults=proxy.faults["refused"])


@pytest.mark.adapter("redis")
async def test_a_link_to_redis_comes_back(
    report: Report, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is told once."""
    pauses = hasty(monkeypatch, redis_link, "backoff", backoff)
    async with Proxy.before(servers.REDIS) as proxy:
        async with RedisLink(through(servers.REDIS, proxy), "b11") as opened:
            proxy.part()
            assert await opened.call(lambda redis: redis.get("b11")) is None
            await until(lambda: proxy.faults["refused"] > FAILURES, 60)
            proxy.refuse(False)
            await until(lambda: not opened.away())
        assert max(pauses) <= redis_link.PAUSE
        assert len(told(caplog)) == 2
        report("B11", scale="Redis", faults=proxy.faults["refused"])


def test_an_outage_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """And its end, however long it was."""
    outage = Outage("a thing")
    for _ in range(FAILURES):
        assert 0 < outage.lost(OSError("away")) <= 15
    outage.back()
    outage.back()
    assert len(told(caplog)) == 2
