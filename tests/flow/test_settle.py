"""Settle: whatever the store does, every ending is written once, and what is wrong is told once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.core.job import Claim, Outcome, State, Ticket
from taskflow.core.lifecycle import Ending, Settlement
from taskflow.core.retry import RetryPolicy
from taskflow.flow.settle import UNKNOWN_FAILURES, Settler
from taskflow.ports.store import Settled
from taskflow.testing.facts import until
from tests.flow.fakes import Followers

DONE = Ending(outcome=Outcome.SUCCEEDED, result="1")


class Store:
    """Writes batches, or fails as often as it was told to."""

    def __init__(self) -> None:
        self.written: list[Settlement] = []
        self.calls = 0
        self.errors: list[Exception] = []
        self.bad: set[str] = set()
        self.spoilt: set[str] = set()
        self.lost: set[str] = set()

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        if any(s.id in self.bad and s.result for s in settlements):
            raise DataRejected("a value that no table takes")
        if any(s.id in self.spoilt for s in settlements):
            raise DataRejected("a row that no check lets pass")
        self.written += settlements
        return [Settled(s.id, s.epoch, None if s.id in self.lost else s.state) for s in settlements]


class House:
    """A settler and what it talks to."""

    def __init__(self) -> None:
        self.store, self.events = Store(), Followers()
        self.tickets: list[Ticket] = []
        self.fatal: list[str] = []
        self.due: list[float] = []
        self.settler = Settler(
            self.store,  # type: ignore[arg-type]
            self.events,
            SimpleNamespace(offer=self.tickets.extend),  # type: ignore[arg-type]
            policy=lambda _: RetryPolicy(),
            last_word=lambda *_: None,
            fatal=self.fatal.append,
            due=self.due.append,
        )


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """One that has written everything at the end."""
    made = House()
    yield made
    async with asyncio.timeout(20):
        await made.settler.drain()
    assert not made.settler.open


def claim_of(name: str, **fields: Any) -> Claim:
    """A claim of a job with this id."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "id": name, "tenant": "default", "task": "t", "queue": "q", "priority": 5, "payload": "{}", "epoch": 1,
        "worker": "w", "attempt": 1, "tries": 1, "max_attempts": 5, "timeout": 60.0, "run": 1, "crashes": 0,
        "interruptions": 0, "snoozes": 0, "tags": "[]", "metadata": "{}", "created_at": now, "started_at": now,
    }  # fmt: skip
    return Claim(**values | fields)


async def test_a_burst_is_a_few_writes_and_every_end_is_told(house: House) -> None:
    """Group commit; each is open until it is written."""
    for number in range(700):
        house.settler.settle(claim_of(f"j{number}"), DONE)
    assert len(house.settler) == 700
    await house.settler.drain()
    assert {one.id for one in house.store.written} == {f"j{number}" for number in range(700)}
    assert house.store.calls <= 4
    assert set(house.events.told) == {(f"job:j{number}", b"succeeded") for number in range(700)}


async def test_an_outage_of_the_store_loses_nothing(house: House) -> None:
    """They are written when it is back; the handler does not run again."""
    house.store.errors = [StoreUnavailable("down")] * 3
    for number in range(10):
        house.settler.settle(claim_of(f"j{number}"), DONE)
    await house.settler.drain()
    assert sorted(one.id for one in house.store.written) == [f"j{number}" for number in range(10)]
    assert not house.fatal


async def test_a_batch_that_fails_for_no_known_reason_counts_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """However many wait for it. Three in a row are fatal."""
    house.store.errors = [RuntimeError("odd")] * (UNKNOWN_FAILURES - 1)
    with caplog.at_level(logging.ERROR, "taskflow"):
        for number in range(50):
            house.settler.settle(claim_of(f"j{number}"), DONE)
        await house.settler.drain()
    assert not house.fatal
    assert sum("unknown reason" in record.message for record in caplog.records) == UNKNOWN_FAILURES - 1
    house.store.errors = [RuntimeError("odd")] * UNKNOWN_FAILURES
    house.settler.settle(claim_of("last"), DONE)
    await until(lambda: bool(house.fatal))


async def test_one_bad_row_fails_alone(house: House) -> None:
    """Its neighbours are stored as they are, it as a clear failure."""
    house.store.bad = {"j3"}
    for number in range(8):
        house.settler.settle(claim_of(f"j{number}"), DONE)
    await house.settler.drain()
    states = {one.id: one.state for one in house.store.written}
    assert states.pop("j3") is State.FAILED
    assert set(states.values()) == {State.SUCCEEDED}
    assert len(states) == 7


async def test_the_end_of_a_run_that_is_no_longer_ours_is_counted(house: House) -> None:
    """And told to nobody: somebody else's row says what became of the job."""
    house.store.lost = {"gone"}
    house.settler.settle(claim_of("gone"), DONE)
    await house.settler.drain()
    assert house.settler.zombies == 1
    assert not house.events.told


async def test_a_retry_tells_when_it_is_due(house: House) -> None:
    """So that whoever promotes looks in time."""
    house.settler.settle(claim_of("again"), Ending(outcome=Outcome.FAILED, after=7))
    await house.settler.drain()
    assert house.due == [7]


async def test_a_row_that_takes_no_end_is_given_up(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is not tried for ever: that is said once, and the worker can drain."""
    house.store.spoilt = {"j3"}
    for number in range(8):
        house.settler.settle(claim_of(f"j{number}"), DONE)
    async with asyncio.timeout(20):
        await house.settler.drain()
    assert {one.id for one in house.store.written} == {f"j{number}" for number in range(8) if number != 3}
    assert sum("whatever its end" in record.message for record in caplog.records) == 1
