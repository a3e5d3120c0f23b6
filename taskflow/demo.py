"""Tasks to try TaskFlow with; `taskflow dev` loads them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from taskflow import Context, Fail, task


@task("demo.echo")
async def echo(ctx: Context, /, **payload: Any) -> dict[str, Any]:
    """Return the payload."""
    ctx.log.info("echo", members=len(payload))
    return payload


@task("demo.sleep")
async def sleep(seconds: float) -> dict[str, float]:
    """Wait, and say how long."""
    await asyncio.sleep(seconds)
    return {"slept": seconds}


@task("demo.flaky")
async def flaky(ctx: Context, fail_times: int = 1) -> dict[str, int]:
    """Fail that many attempts, then succeed."""
    if ctx.attempt <= fail_times:
        raise RuntimeError(f"attempt {ctx.attempt} of {fail_times} that fail")
    return {"attempt": ctx.attempt}


@task("demo.fail")
async def fail(message: str = "this task always fails") -> None:
    """Fail at once and for good."""
    raise Fail(message)


@task("demo.log")
async def log(ctx: Context, lines: list[str], seconds: float = 0.0) -> dict[str, int]:
    """Write lines, spread over some seconds."""
    for line in lines:
        ctx.log.info(line)
        await asyncio.sleep(seconds / len(lines))
    return {"lines": len(lines)}


@task("demo.progress")
async def progress(ctx: Context, steps: int = 10, seconds: float = 5.0) -> dict[str, int]:
    """Report progress step by step."""
    for step in range(steps):
        await asyncio.sleep(seconds / steps)
        ctx.progress((step + 1) / steps, f"step {step + 1} of {steps}")
    return {"steps": steps}


@task("demo.words")
def words(text: str) -> dict[str, Any]:
    """Count the words of a text, in a thread."""
    found = text.lower().split()
    print(f"counted {len(found)} words")  # noqa: T201 - shows that print is captured
    return {"words": len(found), "most_common": Counter(found).most_common(3)}


@task("demo.spin", runs_in="process")
def spin(ctx: Context, seconds: float = 1.0) -> dict[str, int]:
    """Keep a CPU busy, in a process of its own."""
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end and not ctx.cancelled:
        rounds += 1
    return {"rounds": rounds}
