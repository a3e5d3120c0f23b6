"""What the measured jobs do: nothing, or a little of one thing."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from taskflow import task

SPIN: Final = 0.005
"""Seconds of CPU."""


@task("bench.noop")
async def noop(user_id: int, email: str, subject: str, body: str) -> dict[str, bool]:
    """Return at once."""
    return {"ok": True}


@task("bench.spin")
async def spin(user_id: int, email: str, subject: str, body: str) -> dict[str, bool]:
    """Use the CPU for a while."""
    end = time.thread_time() + SPIN
    while time.thread_time() < end:
        pass
    return {"ok": True}


@task("bench.echo")
async def echo(data: str) -> str:
    """Return as much as came."""
    return data


@task("bench.sleep", timeout=120)
async def sleep(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)
