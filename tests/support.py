"""Waiting on facts."""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

T = TypeVar("T")
FULL: Final = bool(os.environ.get("TASKFLOW_TEST_FULL"))
"""Whether tests run at full scale, and not only as far as a few seconds reach."""
_PAUSE = 0.01


async def until(fact: Callable[[], T | Awaitable[T]], within: float = 10.0) -> T:
    """Ask until the answer is truthy.

    Raises:
        AssertionError: it was not within `within` seconds; names the last answer.
    """
    deadline = time.monotonic() + within
    tick = anyio.Event()
    while True:
        answer = fact()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within} s; last answer: {value!r}")
        with anyio.move_on_after(_PAUSE):
            await tick.wait()


def until_sync(fact: Callable[[], T], within: float = 10.0) -> T:
    """`until` for tests without a loop."""
    deadline = time.monotonic() + within
    tick = threading.Event()
    while not (value := fact()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within} s; last answer: {value!r}")
        tick.wait(_PAUSE)
    return value


async def lasting(seconds: float) -> None:
    """Be a handler that takes so long; no test waits with it."""
    if seconds:
        with anyio.move_on_after(seconds):
            await anyio.Event().wait()
