"""Tasks for tests of TaskFlow itself; loaded only where named."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, NoReturn

from taskflow import Context, task


@task("test.effect")
async def effect(ctx: Context, path: str, key: str) -> str:
    """Append `key epoch worker` to a file, in one write."""
    worker = ctx.token.rpartition(":")[2]
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{key} {ctx.epoch} {worker}\n".encode())
    finally:
        os.close(descriptor)
    return key


@task("test.noop")
async def noop() -> None:
    """Do nothing."""


@task("test.hang", runs_in="process")
def hang() -> NoReturn:
    """Ignore every wish to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


@task("test.hang_thread")
def hang_thread(seconds: float) -> None:
    """Keep a thread for a while, whatever is wished."""
    time.sleep(seconds)


@task("test.block")
async def block(seconds: float) -> None:
    """Block the handlers' loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is the point


@task("test.crash")
async def crash() -> None:
    """Kill the process that this runs in."""
    os.kill(os.getpid(), signal.SIGKILL)


@task("test.result")
async def result(kind: str) -> Any:
    """Return something that cannot be kept."""
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    return {
        "nul": "a\0b",
        "surrogate": "\ud800",
        "nan": float("nan"),
        "huge": "x" * (2 << 20),
        "cyclic": cyclic,
        "unserialisable": object(),
    }[kind]
