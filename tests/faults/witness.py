"""Tasks that write down what became of them, for tests that look at a handler from outside.

When that was they read from the wall clock of the machine, which the database shares.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from taskflow import Context, task
from tests.effects import Effect, record
from tests.support import lasting

SETTINGS: Final = {
    "TASKFLOW_TASKS_MODULES": f"taskflow.demo,taskflow.testing.tasks,{__name__}",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}
"""Gives a process these tasks, too."""


def _write(ctx: Context, path: str, key: str, what: str) -> None:
    record(path, Effect(key, ctx.epoch, what, time.time()))


@task("witness.sleep")
async def sleep(ctx: Context, path: str, key: str, seconds: float, later: float = 0.0) -> str:
    """Sleep, for another time where it runs again, and say so when it began, when it was over, and when it was told to
    stop."""
    _write(ctx, path, key, "began")
    try:
        await lasting(seconds if ctx.epoch == 1 else later)
    except asyncio.CancelledError:
        _write(ctx, path, key, "stopped")
        raise
    _write(ctx, path, key, "done")
    return key


@task("witness.spin")
def spin(ctx: Context, path: str, key: str, seconds: float) -> str:
    """Keep a core and the interpreter busy in a thread."""
    _write(ctx, path, key, "began")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1_000))
    _write(ctx, path, key, "done")
    return key


@task("witness.compute")
async def compute(seconds: float) -> None:
    """Keep the handlers' loop and the interpreter busy."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1_000))


DEATHS: Final[dict[str, Callable[[], object]]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(0),
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
}


@task("witness.die")
async def die(how: str) -> None:
    """End the process that this runs in."""
    DEATHS[how]()


@task("witness.die_in_thread")
def die_in_thread(how: str) -> None:
    """The same, from a thread."""
    DEATHS[how]()
