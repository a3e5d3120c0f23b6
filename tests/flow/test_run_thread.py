"""`def` handlers in threads: those that cannot be stopped are left behind, counted, and replaced up to a cap."""

# ruff: noqa: T201 - handlers print

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from taskflow import Context, task
from taskflow.core.job import Outcome, RunsIn
from taskflow.flow.run import StopReason, runners
from tests.flow.house import RunsHouse
from tests.support import until

release = threading.Event()
note: ContextVar[str] = ContextVar("note", default="")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runners, "ABANDON", 0.1)
    release.clear()
    yield
    release.set()


@task("t.hang")
def hang() -> str:
    release.wait(60)
    return "too late"


@task("t.polite")
def polite(ctx: Context) -> None:
    pause = threading.Event()
    while not ctx.cancelled:
        pause.wait(0.01)
    print("going")
    ctx.check()


@task("t.add")
def add(a: int, b: int) -> int:
    print(f"{a} and {b}")
    return a + b


@task("t.note")
def noted(text: str) -> str:
    before = note.get()
    note.set(text)
    return before


async def test_a_value_and_what_was_printed() -> None:
    """Runs use threads of their own; an exit asked for by a handler is its failure."""

    @task("t.exit")
    def leave() -> None:
        raise SystemExit(1)

    async with (house := RunsHouse.of(add, leave)).runners:
        job_id = house.start("t.add", a=1, b=2)
        assert (await house.ending(job_id)).result == "3"
        assert house.messages(job_id) == ["1 and 2"]
        assert await house.outcome(house.start("t.exit")) is Outcome.FAILED
        assert house.runners.free(RunsIn.THREAD) == 8


async def test_a_run_does_not_see_context_variables_of_the_last_one() -> None:
    """Though both used the same thread."""
    async with (house := RunsHouse.of(noted, thread=1)).runners:
        assert [await house.result("t.note", text="x") for _ in range(5)] == [""] * 5


async def test_hung_threads_do_not_stop_others() -> None:
    """Their runs end at their timeout, their slots come back at once, and they are counted until they end."""
    async with (house := RunsHouse.of(hang, add, thread=3)).runners:
        hung = [house.start("t.hang", 0.1) for _ in range(3)]
        assert house.runners.free(RunsIn.THREAD) == 0
        assert {await house.outcome(job_id) for job_id in hung} == {Outcome.TIMEOUT}
        assert house.runners.free(RunsIn.THREAD) == 3
        assert house.runners.abandoned == 3
        assert await house.result("t.add", a=2, b=3) == 5
        assert house.fatal == []
        release.set()
        await until(lambda: house.runners.abandoned == 0)
    assert {len(house.endings[job_id]) for job_id in hung} == {1}


async def test_more_hung_threads_than_slots_end_the_process() -> None:
    """Once, with the reason."""
    async with (house := RunsHouse.of(hang, thread=1)).runners:
        for count in (1, 2, 3):
            assert await house.outcome(house.start("t.hang", 0.05)) is Outcome.TIMEOUT
            await until(lambda count=count: house.runners.abandoned == count)  # type: ignore[misc]
    assert len(house.fatal) == 1
    assert "2 runs could not be stopped" in house.fatal[0]


async def test_a_handler_that_looks_can_stop_in_time() -> None:
    """Cancellation of a thread is cooperative; what it says on its way out is kept."""
    async with (house := RunsHouse.of(polite)).runners:
        job_id = house.start("t.polite")
        await until(lambda: house.runners.running()[job_id, 1].began)
        house.runners.stop(job_id, 1, StopReason.CANCELLED)
        assert await house.outcome(job_id) is Outcome.CANCELLED
        assert house.messages(job_id) == ["going"]
        assert house.runners.abandoned == 0


async def test_what_a_run_says_after_its_end_is_not_kept() -> None:
    """A left-behind thread writes into nobody's log."""
    said = threading.Event()

    @task("t.late")
    def late(ctx: Context) -> None:
        release.wait(60)
        print("late")
        ctx.log.info("late")
        ctx.progress(1.0)
        said.set()

    async with (house := RunsHouse.of(late)).runners:
        job_id = house.start("t.late", 0.05)
        assert await house.outcome(job_id) is Outcome.TIMEOUT
        release.set()
        await until(said.is_set)
        assert house.messages(job_id) == []
        assert house.progress.take(job_id, 1, "w") is None
