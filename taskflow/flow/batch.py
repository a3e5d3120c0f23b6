"""Group commit with natural batching: what comes while a write is in flight shares the next one.

A lone item waits for nobody. A batch that the store refuses is halved down to the guilty item, which fails alone.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from taskflow.core.errors import DataRejected, StoreUnavailable

T = TypeVar("T")
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

ROWS: Final = 500
BYTES: Final = 4 << 20
IN_FLIGHT: Final = 2
WAITING: Final = 20_000


class Receiver(Protocol[R_contra]):
    """Who is told what became of an item; a future is one."""

    def done(self) -> bool:
        """Whether nobody wants to know any more."""
        ...

    def set_result(self, result: R_contra, /) -> None:
        """It was written."""
        ...

    def set_exception(self, error: BaseException, /) -> None:
        """It was not, or nobody knows."""
        ...

    def cancel(self) -> object:
        """The write was given up."""
        ...


class Together(Generic[R]):
    """Who is told what became of many items, each at its place: a future for each would cost more than writing it.

    Args:
        count: items; at least one.
    """

    def __init__(self, count: int) -> None:
        # Each place is told before anybody looks.
        self._results: list[R | BaseException] = [StoreUnavailable("not yet")] * count
        self._left = count
        self._all: asyncio.Future[list[R | BaseException]] = asyncio.get_running_loop().create_future()

    def place(self, index: int) -> Receiver[R]:
        """The receiver of one of them."""
        return _Place(self, index)

    async def results(self) -> list[R | BaseException]:
        """What was written for each, or the error that it met."""
        return await self._all

    @property
    def forgotten(self) -> bool:
        """Whether nobody waits any more."""
        return self._all.done()

    def told(self, index: int, result: R | BaseException) -> None:
        """Of one of them."""
        self._results[index] = result
        self._left -= 1
        if not self._left and not self._all.done():
            self._all.set_result(self._results)


class _Place(Generic[R]):
    __slots__ = ("_index", "_together")

    def __init__(self, together: Together[R], index: int) -> None:
        self._together = together
        self._index = index

    def done(self) -> bool:
        return self._together.forgotten

    def set_result(self, result: R) -> None:
        self._together.told(self._index, result)

    def set_exception(self, error: BaseException) -> None:
        self._together.told(self._index, error)

    def cancel(self) -> None:
        self._together.told(self._index, asyncio.CancelledError())


class Batcher(Generic[T, R]):
    """Turns many `put`s into few `write`s.

    Args:
        write: stores a batch whole or not at all and answers in its order; raises `DataRejected` for bad rows.
        weigh: bytes of an item, so that a batch ends at 4 MiB.
        in_flight: writes at a time.
        patience: where a write finds no store, whoever has waited for his turn for longer than this fails with it: he would
            meet the same, as long again after his coming.
        waiting: most items that wait; one more is refused with `StoreUnavailable`.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        weigh: Callable[[T], int] = lambda _: 0,
        rows: int = ROWS,
        in_flight: int = IN_FLIGHT,
        waiting: int = WAITING,
        patience: float = math.inf,
    ) -> None:
        self._write = write
        self._patience = patience
        self._weigh = weigh
        self._rows = rows
        self._in_flight = in_flight
        self._cap = waiting
        self._waiting: deque[tuple[T, Receiver[R], float]] = deque()
        self._active = 0
        self._flying: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: T) -> asyncio.Future[R]:
        """Queue an item. The future ends with what was written for it, or with the error that it alone, or its whole
        batch, met. Cancelling the future never cancels the shared write."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.hand(item, future)
        return future

    def hand(self, item: T, receiver: Receiver[R]) -> None:
        """Queue an item for a receiver that is told at once, within the write's task: it must not raise."""
        if len(self._waiting) >= self._cap:
            raise StoreUnavailable(f"{self._cap} writes are waiting for the store; try again later")
        loop = asyncio.get_running_loop()
        self._waiting.append((item, receiver, loop.time()))
        if self._active < self._in_flight:
            self._active += 1
            task = loop.create_task(self._fly())
            self._flying.add(task)
            task.add_done_callback(self._flying.discard)

    async def _fly(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._take())
        finally:
            # Counted here and not by the task's end, which is noticed a turn later: an item that came in between
            # would wait for a flight that has landed.
            self._active -= 1

    def _take(self) -> list[tuple[T, Receiver[R]]]:
        batch: list[tuple[T, Receiver[R]]] = []
        weight = 0
        while self._waiting and len(batch) < self._rows:
            weight += self._weigh(self._waiting[0][0])
            if batch and weight > BYTES:
                break
            item, future, _ = self._waiting.popleft()
            batch.append((item, future))
        return batch

    def _impatient(self) -> list[tuple[T, Receiver[R]]]:
        """Those who have waited too long to wait for another write."""
        batch: list[tuple[T, Receiver[R]]] = []
        latest = asyncio.get_running_loop().time() - self._patience
        while self._waiting and self._waiting[0][2] < latest:
            item, future, _ = self._waiting.popleft()
            batch.append((item, future))
        return batch

    async def _commit(self, batch: Sequence[tuple[T, Receiver[R]]]) -> None:
        try:
            written = await self._write([item for item, _ in batch])
        except DataRejected as refused:
            if len(batch) == 1:
                _fail(batch, refused)
                return
            half = len(batch) // 2
            await self._commit(batch[:half])
            await self._commit(batch[half:])
        except BaseException as error:
            _fail(batch, error)
            if isinstance(error, StoreUnavailable):
                _fail(self._impatient(), StoreUnavailable("the store did not take the write before this one"))
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future), result in zip(batch, written, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: Sequence[tuple[T, Receiver[R]]], error: BaseException) -> None:
    for _, future in batch:
        if future.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            future.cancel()
        else:
            future.set_exception(error)
