"""`async def` handlers on a loop of their own: ends, stops, and what a handler that misbehaves cannot do."""

# ruff: noqa: T201 - handlers print

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskflow import Context, Fail, Snooze, lifespan, task
from taskflow.core.job import Outcome, RunsIn
from taskflow.flow import capture
from taskflow.flow.run import StopReason, runners
from taskflow.flow.run.loop import LifespanFailed
from taskflow.flow.run.run import Run
from taskflow.flow.run.runners import Runners
from tests.flow.house import RunsHouse
from tests.support import until, until_sync


@task("t.value")
async def value(ctx: Context, n: int = 1) -> dict[str, int]:
    return {"n": n, "attempt": ctx.attempt}


@task("t.raises")
async def raises(kind: str) -> None:
    match kind:
        case "fail":
            raise Fail("hopeless")
        case "snooze":
            raise Snooze(5)
        case "exit":
            raise SystemExit(3)
        case "cancelled":
            raise asyncio.CancelledError
    raise ValueError(kind)


@task("t.wait")
async def wait() -> None:
    await asyncio.Event().wait()


@task("t.stubborn")
async def stubborn() -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return "done anyway"


async def test_a_value_succeeds_and_an_exception_says_how_it_failed() -> None:
    """Each run ends once."""
    async with (house := RunsHouse.of(value, raises)).runners:
        assert await house.result("t.value", n=7) == {"n": 7, "attempt": 1}
        for kind, outcome, final in (
            ("other", Outcome.FAILED, False),
            ("fail", Outcome.FAILED, True),
            ("snooze", Outcome.SNOOZED, False),
            ("exit", Outcome.FAILED, False),
            ("cancelled", Outcome.FAILED, False),
        ):
            ending = await house.ending(house.start("t.raises", kind=kind))
            assert (ending.outcome, ending.final) == (outcome, final), kind
        assert house.runners.free(RunsIn.ASYNC) == 8
    assert {len(endings) for endings in house.endings.values()} == {1}


@task("t.plain")
def plain(n: int) -> int:
    return n


@pytest.mark.parametrize("name", ["t.value", "t.plain", "t.raises"])
async def test_a_run_that_is_over_leaves_nothing_for_the_garbage_collector(name: str) -> None:
    """Objects that hold each other stay until it comes round, which costs more the more there are."""
    payload: dict[str, Any] = {"kind": "other"} if name == "t.raises" else {"n": 1}

    def runs() -> list[Run]:
        return [each for each in gc.get_objects() if isinstance(each, Run)]

    async with (house := RunsHouse.of(value, plain, raises)).runners:
        gc.disable()
        others = runs()  # of tests before this one, which left some behind
        try:
            for _ in range(20):
                await house.ending(house.start(name, **payload))
            await until(lambda: len(runs()) <= len(others))
        finally:
            gc.enable()


class Leaves(Exception):
    """Whoever reads its text is asked to leave."""

    def __str__(self) -> str:
        raise SystemExit(3)


class Odd(BaseException):
    """No `Exception`."""


def throw(kind: str) -> None:
    """What no handler should raise."""
    raise {"leaves": Leaves, "odd": Odd, "generator": GeneratorExit, "interrupt": KeyboardInterrupt}[kind]


@pytest.mark.parametrize("kind", ["leaves", "odd", "generator", "interrupt"])
async def test_whatever_a_handler_raises_is_its_own_failure(kind: str) -> None:
    """The loop and the thread that it ran on go on."""

    @task("t.async")
    async def on_loop(kind: str) -> None:
        throw(kind)

    @task("t.thread")
    def in_thread(kind: str) -> None:
        throw(kind)

    async with (house := RunsHouse.of(value, on_loop, in_thread)).runners:
        for name in ("t.async", "t.thread"):
            ending = await house.ending(house.start(name, kind=kind))
            assert (ending.outcome, ending.final) == (Outcome.FAILED, False), name
        await house.result("t.value")
        assert (house.runners.free(RunsIn.ASYNC), house.runners.free(RunsIn.THREAD)) == (8, 8)
    assert {len(endings) for endings in house.endings.values()} == {1}


async def test_a_payload_that_does_not_fit_fails_at_once() -> None:
    """The code changed since the submit; trying again would not help."""
    async with (house := RunsHouse.of(value)).runners:
        ending = await house.ending(house.start("t.value", other=1))
    assert (ending.outcome, ending.final) == (Outcome.FAILED, True)
    assert ending.error is not None
    assert ending.error.type == "PayloadMismatch"


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (StopReason.CANCELLED, Outcome.CANCELLED),
        (StopReason.SHUTDOWN, Outcome.INTERRUPTED),
        (StopReason.LOST, Outcome.LOST),
        (StopReason.TIMEOUT, Outcome.TIMEOUT),
    ],
)
async def test_what_stopped_a_run_is_how_it_ended(reason: StopReason, outcome: Outcome) -> None:
    """Also where it was stopped before its first step (a timeout is none then), and where it is stopped for another
    reason later."""
    async with (house := RunsHouse.of(wait, value)).runners:
        early = house.start("t.wait")
        house.runners.stop(early, 1, reason)
        late = house.start("t.wait")
        await house.result("t.value")
        house.runners.stop(late, 1, reason)
        house.runners.stop(late, 1, StopReason.LOST)
        unbegun = Outcome.INTERRUPTED if reason is StopReason.TIMEOUT else outcome
        assert [await house.outcome(early, 3), await house.outcome(late, 3)] == [unbegun, outcome]
        house.runners.stop(late, 1, reason)
        assert house.runners.abandoned == 0


async def test_a_timeout_ends_its_own_run_only() -> None:
    """With a message that names it."""
    async with (house := RunsHouse.of(wait)).runners:
        short, long = house.start("t.wait", 0.1), house.start("t.wait")
        ending = await house.ending(short)
        assert ending.outcome is Outcome.TIMEOUT
        assert "0.1 s" in str(ending.error)
        assert list(house.runners.running()) == [(long, 1)]
        assert house.runners.free(RunsIn.ASYNC) == 7


async def test_a_long_timeout_is_counted_in_short_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No timer is longer than a minute; the sum of them is the timeout."""
    monkeypatch.setattr(runners, "LONGEST", 0.05)
    async with (house := RunsHouse.of(wait)).runners:
        job_id = house.start("t.wait", 0.3)
        run = house.runners.running()[job_id, 1]
        first = run.timer
        await until(lambda: run.timer is not first)
        assert not house.endings[job_id]
        assert await house.outcome(job_id) is Outcome.TIMEOUT


async def test_a_handler_that_swallows_a_stop_and_returns() -> None:
    """After its timeout the timeout stands; work finished in spite of another stop counts."""
    async with (house := RunsHouse.of(stubborn, value)).runners:
        late = house.start("t.stubborn", 0.1)
        assert await house.outcome(late) is Outcome.TIMEOUT
        cancelled = house.start("t.stubborn")
        await house.result("t.value")
        house.runners.stop(cancelled, 1, StopReason.CANCELLED)
        assert (await house.ending(cancelled)).result == '"done anyway"'


async def test_prints_of_concurrent_handlers_land_in_their_own_jobs() -> None:
    """Step by step in turns; unfinished lines are ended with the run; logging and threads of the run too."""
    turns = [asyncio.Event() for _ in range(6)]

    @task("t.prints")
    async def prints(ctx: Context, first: int) -> None:
        name = "even" if first == 0 else "odd"
        for n in range(first, 6, 2):
            await turns[n].wait()
            print(f"{name} {n}", end="\n" if n < 4 else "")
            logging.getLogger("mine").warning("%s logs %d", name, n, extra={"turn": n})
            ctx.log.info(name + f" says {n}", n=n)  # noqa: G003 - fields are no format arguments
            if n < 5:
                turns[n + 1].set()
        await asyncio.to_thread(logging.getLogger("mine").warning, "%s from a thread", name)

    async with (house := RunsHouse.of(prints)).runners:
        turns[0].set()
        even, odd = house.start("t.prints", first=0), house.start("t.prints", first=1)
        for job_id, name, numbers in ((even, "even", (0, 2, 4)), (odd, "odd", (1, 3, 5))):
            assert await house.outcome(job_id) is Outcome.SUCCEEDED
            expected = [f"{name} {n}" for n in numbers]
            expected += [f"{name} {verb} {n}" for n in numbers for verb in ("logs", "says")]
            expected.append(f"{name} from a thread")
            assert sorted(house.messages(job_id)) == sorted(expected)
            logged = [line for line in house.lines[job_id] if " logs " in line["message"]]
            assert [(line["level"], line["source"], line["fields"]) for line in logged] == [
                ("warning", "mine", {"turn": n}) for n in numbers
            ]


async def test_a_burst_of_endings_wakes_the_main_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs end while it is busy."""
    deliveries = 0
    deliver = Runners._deliver

    def counted(self: Runners) -> None:
        nonlocal deliveries
        deliveries += 1
        deliver(self)

    monkeypatch.setattr(Runners, "_deliver", counted)
    async with (house := RunsHouse.of(value, loop=100)).runners:
        for _ in range(100):
            house.start("t.value")
        assert house.runners.free(RunsIn.ASYNC) == 0
        house.runners._loop._hand_over()
        until_sync(lambda: len(house.runners._endings) == 100)  # this loop is busy meanwhile
        await house.runners.idle()
    assert deliveries == 1
    assert [len(endings) for endings in house.endings.values()] == [1] * 100


async def test_an_ending_that_is_not_taken_strands_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """The runners survive what they call."""
    async with (house := RunsHouse.of(value)).runners:
        done, house.runners._done = house.runners._done, lambda claim, ending: 1 / 0  # type: ignore[assignment]
        house.start("t.value")
        await house.runners.idle()
        house.runners._done = done
        await house.result("t.value")
    assert "an ending was not taken" in caplog.text


async def test_what_settles_runs_is_no_part_of_a_run() -> None:
    """Else what is printed later would go to the log of a run that is over."""
    prints: list[str] = []

    async with (house := RunsHouse.of(value)).runners:
        done = house.runners._done

        def settle(claim: Any, ending: Any) -> None:
            prints.append(repr(capture.current.get()))
            done(claim, ending)

        house.runners._done = settle
        await house.result("t.value")
    assert prints == ["None"]


async def test_a_blocked_loop_ends_its_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main loop reports the timeout, counts the run until it is over, and says when nothing can be trusted; a
    neighbour that could not begin is given back."""
    monkeypatch.setattr(runners, "ABANDON", 0.2)
    monkeypatch.setattr(runners, "TICK", 0.05)
    monkeypatch.setattr(runners, "HUNG", 0.3)
    monkeypatch.setattr(importlib.import_module("taskflow.flow.run.run"), "BEGIN", 0.2)
    release = threading.Event()

    @task("t.block")
    async def block() -> None:
        release.wait(30)

    async with (house := RunsHouse.of(block, value)).runners:
        blocker = house.start("t.block", 0.2)
        neighbour = house.start("t.value", 0.2)
        assert await house.outcome(blocker) is Outcome.TIMEOUT
        assert await house.outcome(neighbour) is Outcome.INTERRUPTED
        assert house.runners.free(RunsIn.ASYNC) == 8
        await until(lambda: house.fatal)
        assert "blocked" in house.fatal[0]
        assert house.runners.abandoned == 1
        release.set()
        await until(lambda: house.runners.abandoned == 0)
        assert await house.result("t.value", n=2) == {"n": 2, "attempt": 1}
    assert len(house.fatal) == 1
    assert {len(endings) for endings in house.endings.values()} == {1}


async def test_a_slow_handler_within_its_time_is_nothing_to_worry_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent loop alone is no reason to end the process."""
    monkeypatch.setattr(runners, "TICK", 0.02)
    monkeypatch.setattr(runners, "HUNG", 0.1)
    release = threading.Event()

    @task("t.block")
    async def block() -> None:
        release.wait(30)

    async with (house := RunsHouse.of(block)).runners:
        job_id = house.start("t.block")
        end = time.monotonic() + 0.5
        await until(lambda: time.monotonic() > end)
        assert house.fatal == []
        release.set()
        assert await house.outcome(job_id) is Outcome.SUCCEEDED


async def test_a_handler_that_ends_the_loop_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would run there any more."""
    monkeypatch.setattr(runners, "TICK", 0.05)

    @task("t.loop_killer")
    async def loop_killer() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await asyncio.Event().wait()

    async with (house := RunsHouse.of(loop_killer)).runners:
        job_id = house.start("t.loop_killer")
        await until(lambda: house.fatal)
        assert "gone" in house.fatal[0]
        house.runners.stop(job_id, 1, StopReason.SHUTDOWN)
        assert await house.outcome(job_id) is Outcome.INTERRUPTED


async def test_resources_are_opened_before_the_first_run_and_closed_after_the_last() -> None:
    """Once, on the handlers' loop, merged; closed in reverse."""
    happened: list[str] = []

    @lifespan
    async def first() -> AsyncIterator[dict[str, Any]]:
        happened.append("first opens")
        yield {"a": 1, "loop": asyncio.get_running_loop()}
        happened.append("first closes")

    @lifespan
    async def second() -> AsyncIterator[dict[str, Any]]:
        happened.append("second opens")
        yield {"b": 2}
        happened.append("second closes")

    @task("t.uses")
    async def uses(ctx: Context) -> list[Any]:
        happened.append("run")
        return [ctx.resources["a"], ctx.resources["b"], ctx.resources["loop"] is asyncio.get_running_loop()]

    async with (house := RunsHouse.of(uses, lifespans=(first, second))).runners:
        assert await house.result("t.uses") == [1, 2, True]
        await house.result("t.uses")
    assert happened == ["first opens", "second opens", "run", "run", "second closes", "first closes"]


@task("t.deaf")
async def deaf() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def test_a_run_has_a_timer_only_where_its_time_is_nearly_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most end long before, and a timer for each would cost more than all else of its start. Its time is kept."""
    monkeypatch.setattr(runners, "TICK", 0.05)
    monkeypatch.setattr(runners, "SOON", 0.1)
    async with (house := RunsHouse.of(wait)).runners:
        begun = time.monotonic()
        job_id = house.start("t.wait", timeout=0.5)
        [run] = house.runners.running().values()
        assert run.timer is None
        assert (await house.ending(job_id)).outcome is Outcome.TIMEOUT
        assert 0.5 <= time.monotonic() - begun < 3
        assert run.timer is not None


@task("t.cancels")
async def cancels(others: list[str]) -> int:
    """Cancel the tasks of other runs."""
    tasks = [each for each in asyncio.all_tasks() if each.get_name() in others]
    for each in tasks:
        each.cancel()
    return len(tasks)


async def test_a_run_whose_task_another_handler_cancels_ends_all_the_same() -> None:
    """Whether it had begun or not; each once, and its slot is free again."""
    async with (house := RunsHouse.of(value, wait, cancels)).runners:
        begun = house.start("t.wait")
        await until(lambda: any(run.began for run in house.runners.running().values()))
        rude = house.start("t.cancels", others=[begun, (later := f"job-{int(begun[4:]) + 2}")])
        assert house.start("t.value") == later
        await house.runners.idle()
        assert (await house.ending(rude)).result == "2"
        assert (await house.ending(later)).outcome is Outcome.INTERRUPTED
        assert house.runners.free(RunsIn.ASYNC) == 8
    assert {len(endings) for endings in house.endings.values()} == {1}


@task("t.blocks")
async def blocks(seconds: float = 4) -> None:
    threading.Event().wait(seconds)


@pytest.mark.parametrize("rude", ["t.deaf", "t.blocks"])
async def test_a_handler_that_will_not_end_does_not_hold_up_the_end(rude: str) -> None:
    """Resources are closed where they can be; nobody waits for the handler itself."""
    async with (house := RunsHouse.of(deaf, blocks)).runners:
        job_id = house.start(rude)
        await until(lambda: house.runners._loop._tasks)
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    await until(lambda: house.endings[job_id])


async def test_a_lifespan_that_does_not_open_is_named() -> None:
    """The worker does not start; what was open is closed."""
    closed: list[str] = []

    @lifespan
    async def good() -> AsyncIterator[dict[str, Any]]:
        yield {}
        closed.append("good")

    @lifespan
    async def bad() -> AsyncIterator[dict[str, Any]]:
        if not closed:
            raise OSError("no route to the database")
        yield {}

    house = RunsHouse.of(value, lifespans=(good, bad))
    with pytest.raises(LifespanFailed, match=r"bad.*OSError: no route to the database"):
        await house.runners.__aenter__()


async def test_the_end_of_the_runners_interrupts_what_runs() -> None:
    """Nobody waits for an ending that never comes."""
    async with (house := RunsHouse.of(wait, value)).runners:
        job_id = house.start("t.wait")
        await house.result("t.value")
    assert await house.outcome(job_id) is Outcome.INTERRUPTED
