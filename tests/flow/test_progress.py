"""Progress is written while somebody has any, and its last word is never lost between a write and a settlement."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from taskflow.core.errors import StoreUnavailable
from taskflow.flow.progress import PERIOD, ProgressWriter
from taskflow.testing.facts import until

RUN = ("job", 1, "worker")


class Rows:
    """Takes progress when told to."""

    def __init__(self) -> None:
        self.written: list[list[tuple[str, int, str, str]]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.down = False

    async def set_progress(self, progress: Sequence[tuple[str, int, str, str]]) -> None:
        self.written.append(list(progress))
        await self.go.wait()
        if self.down:
            raise StoreUnavailable("away")


async def test_it_is_written_some_time_after_the_first_word_and_not_before() -> None:
    """From any thread; the newest word counts, and nobody is woken where nobody says any."""
    rows = Rows()
    progress = ProgressWriter(rows)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    round_ = asyncio.create_task(progress.once())
    begun = loop.time()

    def talk() -> None:
        for word in "123":
            progress.note(*RUN, word)

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join()
    await round_
    assert loop.time() - begun >= PERIOD
    assert rows.written == [[(*RUN, "3")]]
    idle = asyncio.create_task(progress.once())
    await asyncio.wait([idle], timeout=3 * PERIOD)
    assert not idle.done()
    idle.cancel()


@pytest.mark.parametrize("newer", [None, "2"])
async def test_the_last_word_is_carried_by_the_settlement_while_one_is_being_written(newer: str | None) -> None:
    """The row may be gone before the write gets at it."""
    rows = Rows()
    progress = ProgressWriter(rows)  # type: ignore[arg-type]
    rows.go.clear()
    progress.note(*RUN, "1")
    writing = asyncio.create_task(progress.write())
    await until(lambda: rows.written)
    if newer:
        progress.note(*RUN, newer)
    assert progress.take(*RUN) == (newer or "1")
    assert progress.take(*RUN) is None
    rows.go.set()
    await writing


async def test_what_the_store_did_not_take_is_written_the_next_time() -> None:
    """But for what is newer, and for whom has ended meanwhile."""
    rows = Rows()
    progress = ProgressWriter(rows)  # type: ignore[arg-type]
    others = ("newer", 1, "worker"), ("over", 1, "worker")
    rows.down = True
    rows.go.clear()
    for run in (RUN, *others):
        progress.note(*run, "1")
    writing = asyncio.create_task(progress.once())
    await until(lambda: rows.written)
    progress.note(*others[0], "2")
    progress.take(*others[1])
    rows.go.set()
    with pytest.raises(StoreUnavailable):
        await writing
    rows.down = False
    await progress.once()
    assert sorted(rows.written[-1]) == sorted([(*RUN, "1"), (*others[0], "2")])
