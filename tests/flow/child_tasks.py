"""Tasks that run in child processes of tests."""

# ruff: noqa: T201 - handlers print

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

from taskflow import Context, lifespan, task
from taskflow.flow.run import wire


@lifespan
async def resources() -> AsyncIterator[dict[str, Any]]:
    yield {"opened_in": os.getpid()}


def for_ever() -> NoReturn:
    while True:
        threading.Event().wait(60)


@task("c.pid", runs_in="process")
def pid(ctx: Context) -> list[int]:
    return [os.getpid(), ctx.resources["opened_in"]]


@task("c.async_pid", runs_in="process")
async def async_pid() -> int:
    return os.getpid()


@task("c.worker_pid")
async def worker_pid() -> int:
    return os.getpid()


@task("c.writes", runs_in="process")
def writes(ctx: Context) -> str:
    print("printed")
    logging.getLogger("mine").info("logged %d", 1)
    ctx.log.info("said \ud800\0", n=1)
    ctx.progress(0.5, "half \ud800")
    os.write(2, b"written by C\n")
    subprocess.run([sys.executable, "-c", "print('by a grandchild')"], check=True)
    ctx.artifacts.put_sync("a/b", b"\0bytes")
    os.write(1, b"the last, without an end")
    return ctx.artifacts.get_sync("a/b").hex()


@task("c.writes_async", runs_in="process")
async def writes_async(ctx: Context) -> str:
    await ctx.artifacts.put("x", b"async")
    return (await ctx.artifacts.get("x")).decode()


@task("c.hang", runs_in="process")
def hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid())
    for_ever()


@task("c.family", runs_in="process")
def family() -> None:
    with subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait(600)"]) as grandchild:
        print(grandchild.pid)
        for_ever()


@task("c.family_appends", runs_in="process")
def family_appends(path: str) -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait(600)"]) as grandchild,
        Path(path).open("a") as file,
    ):
        file.write(f"{os.getpid()}\n{grandchild.pid}\n")
        file.flush()
        for_ever()


@task("c.reaps", runs_in="process")
def reaps() -> int:
    count = 0
    with subprocess.Popen([sys.executable, "-c", ""]) as mine:
        while True:
            try:
                os.wait()
                count += 1
            except ChildProcessError:
                mine.returncode = 0
                return count


@task("c.closes_errors", runs_in="process")
def closes_errors(how: str) -> None:
    if how == "close":
        os.close(2)
    else:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@task("c.long_line", runs_in="process")
def long_line() -> None:
    os.write(2, b"before\n")
    with os.fdopen(os.dup(2), "wb") as raw:
        raw.write(b"x" * (3 << 20) + b"\n")
    os.write(2, b"after\n")


@task("c.polite", runs_in="process")
def polite(ctx: Context) -> None:
    print(os.getpid())
    pause = threading.Event()
    while not ctx.cancelled:
        pause.wait(0.01)
    ctx.check()


@task("c.stdin", runs_in="process")
def stdin() -> list[str]:
    return [sys.stdin.read(), subprocess.run(["cat"], capture_output=True, text=True, check=True).stdout]


@task("c.exits", runs_in="process")
def exits(status: int = 3) -> None:
    os._exit(status)


@task("c.dies", runs_in="process")
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task("c.crash")
async def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task("c.eats", runs_in="process", memory="1GiB")
def eats(mebibytes: int) -> int:
    return len(bytearray(mebibytes << 20)) >> 20


@task("c.appends", runs_in="process")
def appends(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    for_ever()


kept: list[Context] = []
awake = threading.Event()
said = threading.Event()


@task("c.keeps", runs_in="process")
def keeps(ctx: Context) -> int:
    kept.append(ctx)
    return os.getpid()


@task("c.uses_kept", runs_in="process")
def uses_kept() -> list[object]:
    [old] = kept
    old.log.info("of another run")
    old.progress(0.9)
    refused = 0
    for call in (lambda: old.artifacts.put_sync("x", b""), lambda: old.artifacts.get_sync("x")):
        try:
            call()
        except RuntimeError:
            refused += 1
    return [os.getpid(), refused, old.cancelled]


@task("c.leaves_thread", runs_in="process")
def leaves_thread() -> int:
    def late() -> None:
        awake.wait(60)
        print("late")
        os.write(2, b"late\n")
        said.set()

    threading.Thread(target=late, name="late", daemon=True).start()
    return os.getpid()


@task("c.leaves_process", runs_in="process")
def leaves_process() -> list[int]:
    left = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait(600)"])
    return [os.getpid(), left.pid]


@task("c.after", runs_in="process")
def after() -> int:
    """Let a thread that was left behind speak, if there is one."""
    if any(thread.name == "late" for thread in threading.enumerate()):
        awake.set()
        said.wait(5)
    return os.getpid()


@task("c.to_thread", runs_in="process")
async def to_thread() -> int:
    return await asyncio.to_thread(os.getpid)


@task("c.ends_twice", runs_in="process")
def ends_twice(ctx: Context) -> int:
    """What a copy of this process that got back to our code once did."""
    [parent] = [found for found in gc.get_objects() if type(found).__name__ == "Parent"]
    ending = {"outcome": "succeeded", "result": '"forged"', "after": None, "final": False, "error": None}
    end = {"kind": "end", "run": [ctx.job.id, ctx.epoch], "ending": ending, "fresh": True, "marked": False}
    parent._write(wire.pack(end))
    return os.getpid()
