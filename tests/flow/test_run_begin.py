"""What keeps a run from its beginning is the worker's trouble: it is given back, begins nowhere any more, and no attempt is
charged."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from taskflow import Context, task
from taskflow.core.job import Outcome, RunsIn
from taskflow.flow.run import StopReason, children, runners
from taskflow.flow.run.children import Children
from taskflow.flow.run.loop import HandlerLoop
from taskflow.flow.run.run import Run
from taskflow.flow.run.thread import Threads
from tests.flow.house import RunsHouse
from tests.support import until

release = threading.Event()
called: list[str] = []


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, seconds in {"TICK": 0.05, "QUIET": 0.1, "STALLED": 0.3, "HUNG": 0.5, "ABANDON": 0.2}.items():
        monkeypatch.setattr(runners, name, seconds)
    begin(monkeypatch, 0.3)
    release.clear()
    called.clear()
    yield
    release.set()


@pytest.fixture
def switches() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def begin(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long a run may take to begin."""
    monkeypatch.setattr(importlib.import_module("taskflow.flow.run.run"), "BEGIN", seconds)


@task("b.block")
async def block() -> str:
    release.wait(30)
    return "done"


@task("b.quick")
async def quick(ctx: Context) -> None:
    called.append(ctx.job.id)


@task("b.waits")
async def waits(ctx: Context) -> None:
    called.append(ctx.job.id)
    await asyncio.Event().wait()


@task("b.polls")
def polls(ctx: Context) -> None:
    called.append(ctx.job.id)
    while not ctx.cancelled:
        release.wait(0.005)


@task("b.thread")
def thread(ctx: Context) -> None:
    called.append(ctx.job.id)


@task("b.process", runs_in="process")
def process() -> None:
    """It is not reached here."""


async def blocked(house: RunsHouse, timeout: float = 30.0) -> str:
    """The id of a job that keeps the handlers' loop to itself."""
    job_id = house.start("b.block", timeout)
    await until(lambda: house.runners.running()[job_id, 1].began)
    return job_id


async def test_a_timeout_counts_from_the_beginning_of_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is blocked for longer than the timeout of a run that waits for it costs that run nothing."""
    begin(monkeypatch, 20.0)
    async with (house := RunsHouse.of(block, quick, waits)).runners:
        blocker = await blocked(house)
        waiting, hangs, long = house.start("b.quick", 0.1), house.start("b.waits", 0.1), house.start("b.waits", 30)
        await until(lambda: house.runners.silent >= 0.3)
        release.set()
        assert await house.outcome(blocker) is Outcome.SUCCEEDED
        assert await house.outcome(waiting) is Outcome.SUCCEEDED
        assert await house.outcome(hangs) is Outcome.TIMEOUT
        run = house.runners.running()[long, 1]
        left, began = run.left_of_time, run.began
        assert began
        assert left > 30 - (time.monotonic() - began) - 0.01


async def test_a_run_that_does_not_begin_is_given_back(caplog: pytest.LogCaptureFixture) -> None:
    """As an interruption; its handler is not called any more, and whoever blocks the loop is not to blame for it."""
    async with (house := RunsHouse.of(block, quick)).runners:
        blocker = await blocked(house)
        waiting = [house.start("b.quick", timeout) for timeout in (0.1, 30)]
        assert [await house.outcome(job_id) for job_id in waiting] == [Outcome.INTERRUPTED] * 2
        assert list(house.runners.running()) == [(blocker, 1)]
        assert house.runners.abandoned == 0
        await until(lambda: house.runners.silent > runners.HUNG)
        assert house.fatal == []
        release.set()
        assert await house.outcome(blocker) is Outcome.SUCCEEDED
        await house.result("b.quick")
        assert not set(called) & set(waiting)
    assert f"job {waiting[0]} (b.quick) did not begin in its time: it is given back" in caplog.text
    assert {len(endings) for endings in house.endings.values()} == {1}


async def test_a_silent_loop_gets_no_more_runs_until_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """Its slots are not free meanwhile; both are told once."""
    async with (house := RunsHouse.of(block, quick)).runners:
        await blocked(house)
        await until(lambda: house.runners.silent >= 0.5)
        assert (house.runners.free(RunsIn.ASYNC), house.runners.free(RunsIn.THREAD)) == (0, 8)
        assert house.freed == 0
        release.set()
        await until(lambda: house.freed)
        assert (house.runners.free(RunsIn.ASYNC), house.runners.silent) == (8, 0)
    assert [caplog.text.count(told) for told in ("has shown no life", "is back after")] == [1, 1]


async def test_a_loop_that_nobody_may_hold_up_ends_the_process() -> None:
    """What a run left behind on it blocks it, and no run is there whose timeout would ever pass."""

    @task("b.breaks")
    async def breaks() -> None:
        asyncio.get_running_loop().call_later(0.05, release.wait, 30)

    async with (house := RunsHouse.of(breaks)).runners:
        await house.result("b.breaks")
        await until(lambda: house.fatal)
        assert "no run is on it" in house.fatal[0]
        release.set()


@pytest.mark.parametrize("kind", ["b.waits", "b.polls"])
async def test_a_run_either_begins_or_is_given_back(kind: str, switches: None) -> None:
    """Whatever thread is faster: a handler is called if, and only if, its run was not given back before."""
    async with (house := RunsHouse.of(waits, polls, loop=400, thread=400)).runners:
        jobs = []
        for number in range(300):
            jobs.append(house.start(kind))
            run, busy = house.runners.running()[jobs[-1], 1], time.monotonic() + number % 10 / 20_000
            if number % 10 == 9:
                await until(lambda run=run: run.began)  # type: ignore[misc]
            while time.monotonic() < busy and not run.began:
                """What is faster is left to chance."""
            house.runners.stop(jobs[-1], 1, StopReason.TIMEOUT)
        outcomes = {job_id: await house.outcome(job_id) for job_id in jobs}
        await until(lambda: house.runners.abandoned == 0)
    assert {job_id for job_id, outcome in outcomes.items() if outcome is Outcome.TIMEOUT} == set(called)
    assert set(outcomes.values()) <= {Outcome.TIMEOUT, Outcome.INTERRUPTED}
    assert {len(endings) for endings in house.endings.values()} == {1}


def test_a_run_cannot_begin_while_it_is_being_given_back() -> None:
    """Whoever begins it in that very moment waits, and may not."""
    deciding, tried = threading.Event(), threading.Event()
    began: list[bool] = []
    ended: list[Any] = []

    class Undecided:
        timeout = 1.0

        @property
        def isolated(self) -> bool:
            """Looked at after it was seen that the run has not begun."""
            deciding.set()
            tried.wait(0.2)
            return False

    def begins() -> None:
        deciding.wait(10)
        began.append(run.begin())
        tried.set()

    run = Run(Undecided(), thread, None, None, lambda *end: ended.append(end))  # type: ignore[arg-type]
    other = threading.Thread(target=begins)
    other.start()
    withdrawn = run.withdraw()
    other.join()
    assert (withdrawn, began, len(ended)) == (True, [False], 1)


@pytest.mark.parametrize(
    ("name", "kind", "crashes", "broken"),
    [
        ("b.quick", RunsIn.ASYNC, 0, (HandlerLoop, "start")),
        ("b.thread", RunsIn.THREAD, 0, (threading.Thread, "start")),
        ("b.process", RunsIn.PROCESS, 0, (Children, "_spawn")),
        ("b.quick", RunsIn.PROCESS, 2, (Children, "_spawn")),
    ],
    ids=["loop", "thread", "process", "isolated"],
)
async def test_a_run_that_cannot_be_started_leaves_nothing_behind(
    name: str,
    kind: RunsIn,
    crashes: int,
    broken: tuple[type, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither a slot that is taken nor a timer: it is an interruption. No more of its kind are wanted for a while, others
    are; and the same goes on once the cause is gone."""

    def fails(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    async with (house := RunsHouse.of(quick, thread, process)).runners:
        with monkeypatch.context() as patch:
            for module in (runners, children):
                patch.setattr(module, "backoff", lambda *_, **__: 0.3)
            patch.setattr(*broken, fails)
            jobs = [house.start(name, 0.5, crashes=crashes) for _ in range(1 if crashes else 3)]
            assert [await house.outcome(job_id, 3) for job_id in jobs] == [Outcome.INTERRUPTED] * len(jobs)
            assert {each: house.runners.free(each) for each in RunsIn} == dict.fromkeys(RunsIn, 8) | {kind: 0}
            assert house.runners.isolation_free is (kind is not RunsIn.PROCESS)
            await asyncio.wait_for(house.runners.idle(), 3)
        await until(lambda: house.freed)
        assert house.runners.free(kind) == 8
        assert house.runners.isolation_free
        assert house.runners._threads._threads == 0
        if kind is not RunsIn.PROCESS:
            await house.result(name)
    if kind is not RunsIn.PROCESS:
        assert caplog.text.count("could not be started") == 1
        assert caplog.text.count("can't start new thread") == 1
    assert {len(endings) for endings in house.endings.values()} == {1}


async def test_the_rest_after_failed_starts_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as they fail in a row; interruptions are counted, and a job must not use them up in a minute."""
    failures: list[int] = []

    def told(number: int, **_: float) -> float:
        failures.append(number)
        return 0.01

    def fails(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(runners, "backoff", told)
    monkeypatch.setattr(Threads, "start", fails)
    async with (house := RunsHouse.of(thread)).runners:
        for _ in range(3):
            await until(lambda: house.runners.free(RunsIn.THREAD))
            for _ in range(2):
                await house.outcome(house.start("b.thread"))
    assert failures[:3] == [1, 2, 3]
