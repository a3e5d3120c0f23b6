"""Tasks that misbehave as those in reports of bugs do; loaded by the processes of tests/bugs."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path
from typing import Any, Final

from taskflow import Context, RetryPolicy, task
from tests.effects import append

SOON: Final = RetryPolicy(base=0.05, cap=0.1)
BAD: Final = {"nul": "a\0b", "surrogate": "a\ud800b"}
NUMBERS: Final = {"nan": float("nan"), "infinity": float("inf"), "minus": -float("inf"), "huge": 10**400, "zero": -0.0}


@task("bug.spin")
async def spin(ctx: Context, seconds: float, path: str) -> int:
    """Keep the handlers' loop busy with Python, and never let it look at anything else."""
    append(path, f"{ctx.job.id} {ctx.epoch}")
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rounds += 1
    return rounds


@task("bug.wilful", retry=SOON)
async def wilful(ctx: Context, seconds: float, path: str) -> str:
    """Overlook the timeout of the first attempt, and return its result while the second runs."""
    append(path, f"async begins {ctx.attempt}")
    end = time.monotonic() + seconds
    while time.monotonic() < end if ctx.attempt == 1 else not _late(path, "async", seconds):
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ctx.attempt > 1:
                raise
        except TimeoutError:
            continue
    append(path, f"async ends {ctx.attempt}")
    return f"of attempt {ctx.attempt}"


def _late(path: str, kind: str, seconds: float) -> bool:
    """Whether the first attempt has returned, some moments ago; where it lasted no time, nobody waits for it."""
    said = Path(path)
    return not seconds or (f"{kind} ends 1" in said.read_text() and time.time() > said.stat().st_mtime + 0.3)


def _wilful(ctx: Context, kind: str, seconds: float, path: str) -> str:
    append(path, f"{kind} begins {ctx.attempt}")
    end = time.monotonic() + (seconds if ctx.attempt == 1 else 0)
    while time.monotonic() < end or (kind == "thread" and ctx.attempt > 1 and not _late(path, kind, seconds)):
        threading.Event().wait(0.01)
    append(path, f"{kind} ends {ctx.attempt}")
    return f"of attempt {ctx.attempt}"


@task("bug.wilful_thread", retry=SOON)
def wilful_thread(ctx: Context, seconds: float, path: str) -> str:
    """The same in a thread."""
    return _wilful(ctx, "thread", seconds, path)


@task("bug.wilful_process", retry=SOON, runs_in="process")
def wilful_process(ctx: Context, seconds: float, path: str) -> str:
    """The same in a process."""
    return _wilful(ctx, "process", seconds, path)


@task("bug.text", retry=SOON)
async def text(ctx: Context, where: str, kind: str) -> Any:
    """Put a text that no database takes where a handler can put one."""
    bad = BAD[kind]
    match where:
        case "result":
            return {"x": bad}
        case "key":
            return {bad: 1}
        case "error":
            raise ValueError(bad)
        case "cause":
            raise ValueError("outer") from KeyError(bad)
        case "log":
            ctx.log.info(bad, field=bad, **{bad: [bad, {bad: bad}]})
        case "logging":
            logging.getLogger(bad).warning("%s", bad, extra={"more": bad})
        case "print":
            print(bad)  # noqa: T201
        case "progress":
            ctx.progress(0.5, bad)
        case "artifact":
            await ctx.artifacts.put(bad, b"x")
        case "content_type":
            await ctx.artifacts.put("name", b"x", content_type=bad)
    return "done"


@task("bug.number", retry=SOON)
async def number(ctx: Context, where: str, kind: str) -> Any:
    """Put a number that JSON does not have where a handler can put one."""
    bad: Any = NUMBERS[kind]
    match where:
        case "result":
            return {"x": bad}
        case "log":
            ctx.log.info("number", field=bad, deep=[{"x": bad}])
        case "progress":
            ctx.progress(bad, "number")
    return "done"
