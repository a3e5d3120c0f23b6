"""`taskflow.testing.run`: what a user's unit test sees is what a worker would settle."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from taskflow import Context, task
from taskflow.core.errors import Invalid
from taskflow.core.job import Outcome
from taskflow.tasks.jsontext import Unstorable
from taskflow.testing import run

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@task("run.async")
async def waits(value: int) -> int:
    """Uses a loop."""
    await checkpoint()
    return value


@task("run.process", runs_in="process")
async def in_process(value: int) -> int:
    """A process task may be async def too."""
    return value


async def test_a_test_that_has_a_loop_may_call_it() -> None:
    """The handler gets a loop of its own, and the caller's context variables."""

    @task("run.who")
    async def who() -> str:
        return WHO.get()

    WHO.set("me")
    assert (run(waits, {"value": 1}).result, run(who).result) == (1, "me")


def test_process_tasks_run_here() -> None:
    """Without a child, so that breakpoints work."""
    assert run(in_process, {"value": 1}).result == 1


@pytest.mark.parametrize("payload", [{}, {"value": "1"}, {"value": 1, "x": 2}, {"value": 10**5_000}])
def test_a_payload_that_submit_would_refuse_is_refused(payload: dict[str, Any]) -> None:
    """Before the handler is called."""
    with pytest.raises((Invalid, Unstorable)):
        run(waits, payload)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
def test_what_ends_more_than_a_handler_fails_the_run_only(error: BaseException) -> None:
    """As in a worker."""

    @task("run.exits")
    async def exits() -> None:
        raise error

    done = run(exits)
    assert done.error is not None
    assert (done.outcome, done.error.type, done.ending.outcome) == (
        Outcome.FAILED, type(error).__name__, Outcome.FAILED,
    )  # fmt: skip


def test_ctrl_c_ends_the_test() -> None:
    """It is the person who asks, not the handler."""

    @task("run.interrupted")
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted)


def test_what_happened_before_a_failure_is_kept() -> None:
    """Lines, progress and files."""

    @task("run.fails_late")
    def fails_late(ctx: Context) -> None:
        ctx.log.info("before")
        ctx.progress(0.5)
        ctx.artifacts.put_sync("part", b"1")
        raise ValueError("late")

    done = run(fails_late)
    assert (done.logs, done.progress, done.artifacts) == ([("info", "before", {})], [(0.5, None)], {"part": b"1"})
    assert (done.outcome, done.result) == (Outcome.FAILED, None)
