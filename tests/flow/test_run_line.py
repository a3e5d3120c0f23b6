"""The line before the handlers' loop is as long as its pace allows, and no claim is refused for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from taskflow import task
from taskflow.core.job import RunsIn
from taskflow.flow.run.line import LEAST, PERIOD, Line
from taskflow.flow.run.run import Run
from tests.flow.house import RunsHouse
from tests.support import until


class Standing:
    """A run, as far as a line looks at it."""

    def __init__(self) -> None:
        self.began: float | None = None
        self.ended = False


class Queue:
    """A line with a clock, and what stands in it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.line = Line(lambda: self.now)
        self.runs: list[Standing] = []

    def add(self, count: int) -> None:
        for _ in range(count):
            self.runs.append(Standing())
            self.line.add(cast("Run", self.runs[-1]))

    def begin(self, count: int) -> None:
        for run in self.runs[:count]:
            run.began = self.now
        del self.runs[:count]


def test_what_nobody_has_seen_begin_is_few() -> None:
    """There is room again when half of it has gone, and whoever asked in vain hears of that run."""
    queue = Queue()
    assert queue.line.room() == LEAST
    queue.add(LEAST)
    assert queue.line.room() == 0
    awaited = queue.line.awaited
    assert cast("Any", awaited) is queue.runs[LEAST // 2 - 1]
    queue.begin(LEAST // 2 - 1)
    queue.now += PERIOD / 10
    assert queue.line.room() == 0
    assert queue.line.awaited is awaited
    queue.begin(1)
    assert queue.line.room() == LEAST // 2
    # Somebody else may have asked this time.
    assert queue.line.awaited is awaited


def test_handlers_that_begin_at_once_have_all_the_room_that_they_need() -> None:
    """It grows with each answer, within a period."""
    queue = Queue()
    handed = 0
    for _ in range(8):
        handed += (room := queue.line.room())
        queue.add(room)
        queue.begin(room)
        queue.now += PERIOD / 100
    assert handed > 1_000


def test_handlers_that_compute_have_as_much_as_begins_in_two_periods() -> None:
    """Also after a time in which others were faster, or nobody asked."""
    queue = Queue()
    queue.add(1_000)
    queue.begin(1_000)
    assert queue.line.room() == 2_000
    queue.now += 1.01 * PERIOD
    queue.add(100)
    assert 1_800 < queue.line.room() <= 1_900
    for _ in range(3):
        queue.now += 1.01 * PERIOD
        queue.begin(20)
        assert queue.line.room() == 0
    queue.begin(21)
    assert 15 < queue.line.room() <= 25
    queue.now += 100 * PERIOD
    queue.begin(19 - LEAST // 2)
    assert queue.line.room() == LEAST // 2


def test_what_ended_before_it_began_stands_in_no_line() -> None:
    """It was withdrawn, or cancelled by another handler."""
    queue = Queue()
    queue.add(LEAST)
    for run in queue.runs:
        run.ended = True
    assert queue.line.waiting() == 0


@task("t.compute")
async def compute() -> None:
    """For 5 ms."""
    end = time.thread_time() + 0.005
    while time.thread_time() < end:
        pass


@task("t.long")
async def long() -> None:
    await asyncio.Event().wait()


async def test_no_more_is_claimed_than_a_handlers_loop_that_computes_can_begin_soon() -> None:
    """Whatever slots there are; and the next are taken when there is room, not after a look now and then."""
    async with (house := RunsHouse.of(compute, loop=1_000)).runners:
        most = started = 0

        def done() -> bool:
            nonlocal most, started
            if free := house.runners.free(RunsIn.ASYNC):
                for _ in range(free):
                    house.start("t.compute")
                started += free
            most = max(most, started - len(house.endings))
            return len(house.endings) >= 100

        await until(done)
        assert LEAST <= most < 100
        await until(lambda: len(house.endings) == started)


async def test_who_was_refused_hears_when_handlers_that_wait_have_begun() -> None:
    """None of them ends, and nothing else would tell."""
    async with (house := RunsHouse.of(long, loop=1_000)).runners:
        while free := house.runners.free(RunsIn.ASYNC):
            # The loop has no turn in between.
            for _ in range(free):
                house.start("t.long")
        before = house.caught_up
        await until(lambda: house.caught_up > before)
        assert house.runners.free(RunsIn.ASYNC) > 0
