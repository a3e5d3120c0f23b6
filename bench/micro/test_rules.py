"""What needs no server: decisions, admission, batches, messages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.conftest import House
from taskflow.adapters.rabbitmq.wire import decode, encode
from taskflow.core.ids import new_id
from taskflow.core.job import Claim, ErrorInfo, Lane, LaneKey, Outcome, RunsIn, Ticket
from taskflow.core.lifecycle import Ending, decide
from taskflow.core.retry import RetryPolicy
from taskflow.flow.batch import Batcher

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LANE = LaneKey("default", Lane.NORMAL)
CLAIM = Claim(
    *(new_id(), "default", "bench.noop", "default", 5, "{}", 1, new_id(), 1, 1, 3, 60.0, 1, 0, 0, 0, "[]", "{}"),
    *(NOW, NOW),
)
ITEMS = 1_000


@pytest.mark.benchmark(group="decide")
@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED])
def test_decide(benchmark: BenchmarkFixture, outcome: Outcome) -> None:
    """What an ending means."""
    ending = Ending(outcome, "1", ErrorInfo("E", "no", "") if outcome is Outcome.FAILED else None)
    benchmark(decide, CLAIM, ending, RetryPolicy())


@pytest.mark.benchmark(group="decide")
def test_raw_decide(benchmark: BenchmarkFixture) -> None:
    """A tuple of as many fields."""
    benchmark(lambda: tuple(CLAIM))


@pytest.mark.benchmark(group="batch (1,000)")
def test_batch(benchmark: BenchmarkFixture, house: House) -> None:
    """A thousand items, each with a future of its own, through a batcher that writes nothing."""

    async def write(items: Sequence[int]) -> Sequence[int]:
        return items

    async def put() -> None:
        batcher = Batcher(write)
        await asyncio.gather(*map(batcher.put, range(ITEMS)))

    benchmark(house.calling(put))


@pytest.mark.benchmark(group="batch (1,000)")
def test_raw_batch(benchmark: BenchmarkFixture, house: House) -> None:
    """A thousand futures that are set."""

    async def put() -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(ITEMS)]
        for number, future in enumerate(futures):
            future.set_result(number)
        await asyncio.gather(*futures)

    benchmark(house.calling(put))


def tickets() -> list[Ticket]:
    """A full message."""
    return [Ticket(new_id(), LANE, RunsIn.ASYNC, NOW) for _ in range(64)]


@pytest.mark.benchmark(group="message (64)")
def test_message(benchmark: BenchmarkFixture) -> None:
    """There and back."""
    some = tickets()
    assert list(benchmark(lambda: decode(encode(some), LANE))) == some


@pytest.mark.benchmark(group="message (64)")
def test_raw_message(benchmark: BenchmarkFixture) -> None:
    """The ids alone, as bytes."""
    raw = [bytes.fromhex(ticket.job_id.replace("-", "")) for ticket in tickets()]

    def there_and_back() -> Any:
        body = b"".join(raw)
        return [body[at : at + 16] for at in range(0, len(body), 16)]

    benchmark(there_and_back)
