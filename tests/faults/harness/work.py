"""Tasks whose effects lie outside TaskFlow's tables, where an oracle can count them.

Each run records an `S` when it starts and an `E` when it ends, on the clock that all processes of a machine share and that
nobody sets. `VARIABLE` in the environment names the file. Runs in child processes hold a lock of the system while they last,
which dies with them: who finds it held records an `O`, an overlap.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Final

from taskflow import Context, Fail, RetryPolicy, Snooze, task
from tests.effects import Effect, record
from tests.support import lasting

VARIABLE: Final = "TASKFLOW_TEST_EFFECTS"
SOON: Final = RetryPolicy(attempts=5, base=0.2, cap=1.0)


def tell(what: str, ctx: Context, key: str) -> None:
    """Record an effect."""
    record(os.environ[VARIABLE], Effect(key, ctx.epoch, what, time.monotonic()))


@task("work.run", retry=SOON)
async def run(ctx: Context, key: str, seconds: float = 0.0) -> str:
    """The most common one."""
    tell("S", ctx, key)
    await lasting(seconds)
    tell("E", ctx, key)
    return key


@task("work.thread", retry=SOON)
def thread(ctx: Context, key: str, seconds: float = 0.0) -> str:
    """In a thread."""
    tell("S", ctx, key)
    threading.Event().wait(seconds)
    tell("E", ctx, key)
    return key


@task("work.process", runs_in="process", retry=SOON)
def process(ctx: Context, key: str, seconds: float = 0.0) -> str:
    """In a child process, of which two must never run for one job."""
    with Path(f"{os.environ[VARIABLE]}.{key}.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("O", ctx, key)
        tell("S", ctx, key)
        threading.Event().wait(seconds)
        tell("E", ctx, key)
    return key


@task("work.flaky", retry=SOON)
async def flaky(ctx: Context, key: str, fail_times: int) -> str:
    """Fails that many attempts."""
    tell("S", ctx, key)
    if ctx.attempt <= fail_times:
        raise RuntimeError(f"attempt {ctx.attempt} of {fail_times} that fail")
    tell("E", ctx, key)
    return key


@task("work.snooze", retry=SOON)
async def snooze(ctx: Context, key: str) -> str:
    """Not in its first epoch."""
    tell("S", ctx, key)
    if ctx.epoch == 1:
        raise Snooze(0.3)
    tell("E", ctx, key)
    return key


@task("work.dead", retry=SOON)
async def dead(ctx: Context, key: str, mended: bool = False) -> str:
    """Fails for good until it is replayed with another payload."""
    tell("S", ctx, key)
    if not mended:
        raise Fail("not mended yet")
    tell("E", ctx, key)
    return key


@task("work.wordy", retry=SOON)
async def wordy(ctx: Context, key: str, seconds: float = 0.0) -> str:
    """Logs, reports progress and keeps a file."""
    tell("S", ctx, key)
    for number in range(5):
        ctx.log.info("line", number=number)
        ctx.progress(number / 5)
        await lasting(seconds / 5)
    # The object store may be away: that is no reason to fail.
    with contextlib.suppress(Exception):
        await ctx.artifacts.put("words.txt", key.encode())
    tell("E", ctx, key)
    return key
