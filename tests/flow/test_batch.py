"""Group commit: natural batching, bad rows, lost clients."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.flow.batch import Batcher, Together
from tests.support import until


class Table:
    """A store of integers that refuses some, and whose writes wait for `gate`."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, items: Sequence[int]) -> Sequence[int]:
        await self.gate.wait()
        if any(item in self.bad for item in items):
            raise DataRejected("bad row")
        self.batches.append(list(items))
        return [item * 10 for item in items]


async def test_a_lone_item_waits_for_nobody() -> None:
    """One put is one write."""
    table = Table()
    assert await Batcher(table.write).put(1) == 10
    assert table.batches == [[1]]


async def test_what_comes_during_a_write_shares_the_next() -> None:
    """While two writes are in flight, a hundred puts become one batch."""
    table = Table()
    table.gate.clear()
    batcher = Batcher(table.write)
    first = batcher.put(0)
    await anyio.lowlevel.checkpoint()
    rest = [batcher.put(n) for n in range(1, 101)]
    table.gate.set()
    assert await asyncio.gather(first, *rest) == [n * 10 for n in range(101)]
    assert len(table.batches) <= 3


async def test_one_bad_row_among_two_hundred_fails_alone() -> None:
    """Halving finds the guilty row; every other is written once."""
    table = Table(117)
    batcher = Batcher(table.write)
    results = await asyncio.gather(*(batcher.put(n) for n in range(200)), return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, BaseException)] == [117]
    assert isinstance(results[117], DataRejected)
    assert sorted(n for batch in table.batches for n in batch) == [n for n in range(200) if n != 117]


async def test_a_client_that_hangs_up_does_not_cancel_the_batch() -> None:
    """Cancelling one future leaves the shared write alone."""
    table = Table()
    table.gate.clear()
    batcher = Batcher(table.write)
    gone, stays = batcher.put(1), batcher.put(2)
    await anyio.lowlevel.checkpoint()
    gone.cancel()
    table.gate.set()
    assert await stays == 20
    assert table.batches == [[1, 2]]


async def test_an_outage_fails_the_whole_batch_and_the_next_is_tried() -> None:
    """StoreUnavailable reaches each waiter; the batcher goes on."""
    table = Table()
    fail = True

    async def write(items: Sequence[int]) -> Sequence[int]:
        if fail:
            raise StoreUnavailable("gone")
        return await table.write(items)

    batcher = Batcher(write)
    results = await asyncio.gather(batcher.put(1), batcher.put(2), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    fail = False
    assert await batcher.put(3) == 30


async def test_who_waited_long_behind_a_write_that_finds_no_store_fails_with_it() -> None:
    """Another write would end when his time is over. A row that is refused fails nobody else, and who has just come is
    tried: one connection that breaks is no store that is away."""
    table = Table(1)
    table.gate.clear()
    batcher = Batcher(table.write, in_flight=1, rows=1, patience=0.0)
    refused, waiting = batcher.put(1), batcher.put(2)
    await anyio.lowlevel.checkpoint()
    table.gate.set()
    results = await asyncio.gather(refused, waiting, return_exceptions=True)
    assert (type(results[0]), results[1]) == (DataRejected, 20)
    writes: list[Sequence[int]] = []

    async def lost(items: Sequence[int]) -> Sequence[int]:
        writes.append(items)
        await table.gate.wait()
        if items == [0]:
            raise StoreUnavailable("gone")
        return items

    batcher = Batcher(lost, in_flight=1, rows=1, patience=0.2)
    table.gate.clear()
    began = asyncio.get_running_loop().time()
    rest = [batcher.put(n) for n in range(100)]
    await until(lambda: asyncio.get_running_loop().time() > began + 0.25)
    late = batcher.put(100)
    table.gate.set()
    answers = await asyncio.gather(*rest, late, return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers[:-1])
    assert answers[-1] == 100
    assert writes == [[0], [100]]


async def test_the_queue_is_capped() -> None:
    """One item over the cap is refused at once instead of waiting in memory."""
    table = Table()
    table.gate.clear()
    batcher = Batcher(table.write, waiting=2, in_flight=1)
    first, second = batcher.put(1), batcher.put(2)
    with pytest.raises(StoreUnavailable):
        batcher.put(3)
    table.gate.set()
    assert [await first, await second] == [10, 20]


async def test_one_after_another_never_waits_for_a_flight_that_has_landed() -> None:
    """An item that comes in the very turn in which the last write was answered is written, too."""
    table = Table()
    batcher = Batcher(table.write, in_flight=1)
    with anyio.fail_after(5):
        for n in range(1_000):
            assert await batcher.put(n) == n * 10


async def test_many_items_are_told_together_each_at_its_place() -> None:
    """What was written for each, or the error that it alone met."""
    table = Table(3)
    batcher = Batcher(table.write, rows=2)
    together: Together[int] = Together(5)
    for place in range(5):
        batcher.hand(place, together.place(place))
    zero, one, two, three, four = await together.results()
    assert (zero, one, two, four) == (0, 10, 20, 40)
    assert isinstance(three, DataRejected)


async def test_many_items_of_a_client_that_hung_up_are_written_all_the_same() -> None:
    """Nobody is told, and nobody else is kept from his answer."""
    table = Table()
    table.gate.clear()
    batcher = Batcher(table.write)
    together: Together[int] = Together(2)
    for place in range(2):
        batcher.hand(place, together.place(place))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await together.results()
    other = batcher.put(7)
    table.gate.set()
    assert await other == 70
    assert sorted(item for batch in table.batches for item in batch) == [0, 1, 7]
