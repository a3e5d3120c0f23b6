"""What a handler is given: every door of the context leads to the runner's effects."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from taskflow import Context, task
from taskflow.core.errors import NotFound
from taskflow.core.job import Outcome
from taskflow.testing import run


@task("context.all")
async def everything(ctx: Context) -> dict[str, Any]:
    """Show what the context says."""
    return {
        "job": [ctx.job.task, ctx.job.queue, ctx.job.priority, ctx.job.run, list(ctx.job.tags), dict(ctx.job.metadata)],
        "young": (datetime.now(UTC) - ctx.job.created_at).total_seconds() < 60,
        "attempt": [ctx.attempt, ctx.epoch],
        "token": ctx.token == f"{ctx.job.id}:{ctx.epoch}:test",
        "pool": ctx.resources["pool"],
        "cancelled": ctx.cancelled,
    }


def test_a_context_knows_its_run() -> None:
    """Job, attempt, epoch, token, resources."""
    assert run(everything, attempt=3, resources={"pool": 7}).result == {
        "job": ["context.all", "default", 5, 1, [], {}],
        "young": True,
        "attempt": [3, 3],
        "token": True,
        "pool": 7,
        "cancelled": False,
    }


def test_lines_of_every_level() -> None:
    """Structured; `exception` adds the traceback of what is being handled."""

    @task("context.log")
    def writes(ctx: Context) -> None:
        ctx.log.debug("a", n=1)
        ctx.log.info("b")
        ctx.log.warning("c")
        ctx.log.error("d")
        try:
            raise KeyError("gone")
        except KeyError:
            ctx.log.exception("e", n=2)

    *lines, last = run(writes).logs
    assert lines == [("debug", "a", {"n": 1}), ("info", "b", {}), ("warning", "c", {}), ("error", "d", {})]
    level, message, fields = last
    assert (level, message, fields["n"]) == ("error", "e", 2)
    assert "KeyError: 'gone'" in fields["exception"]


@pytest.mark.parametrize(("fraction", "kept"), [(0.4, 0.4), (-1, 0.0), (7, 1.0), (math.inf, 1.0), (math.nan, 0.0)])
def test_progress_is_clamped(fraction: float, kept: float) -> None:
    """0 to 1, whatever is said."""

    @task("context.progress")
    def says(ctx: Context) -> None:
        ctx.progress(fraction, "page 2 of 5")

    assert run(says).progress == [(kept, "page 2 of 5")]


def test_progress_and_lines_come_from_any_thread() -> None:
    """Also from one that the handler started."""

    @task("context.threads")
    def starts(ctx: Context) -> None:
        threads = [threading.Thread(target=ctx.progress, args=(0.5,)) for _ in range(4)]
        threads.append(threading.Thread(target=ctx.log.info, args=("from a thread",)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    done = run(starts)
    assert (done.progress, done.logs) == ([(0.5, None)] * 4, [("info", "from a thread", {})])


def test_files_in_both_kinds_of_handler() -> None:
    """Awaited in `async def`, plain in `def`; a missing one is NotFound."""

    @task("context.files.async")
    async def awaits(ctx: Context) -> str:
        await ctx.artifacts.put("out/a.txt", b"a", content_type="text/plain")
        return (await ctx.artifacts.get("in.txt")).decode()

    @task("context.files.sync")
    def plain(ctx: Context) -> str:
        ctx.artifacts.put_sync("out/a.txt", b"a")
        return ctx.artifacts.get_sync("in.txt").decode()

    for handler in (awaits, plain):
        done = run(handler, artifacts={"in.txt": b"in"})
        assert (done.result, done.artifacts) == ("in", {"in.txt": b"in", "out/a.txt": b"a"})
        missing = run(handler)
        assert missing.error is not None
        assert missing.error.type == NotFound.__name__


def test_a_run_that_was_asked_to_stop() -> None:
    """`cancelled` says so, `check` stops there: the run ends as cancelled, and one that succeeds all the same counts."""

    @task("context.stops")
    def stops(ctx: Context) -> None:
        ctx.check()

    @task("context.goes_on")
    def goes_on(ctx: Context) -> bool:
        return ctx.cancelled

    assert run(stops).outcome is Outcome.SUCCEEDED
    assert run(stops, cancelled=True).outcome is Outcome.CANCELLED
    done = run(goes_on, cancelled=True)
    assert (done.outcome, done.result) == (Outcome.SUCCEEDED, True)
