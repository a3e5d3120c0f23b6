"""Waiting on facts, with a deadline."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

_PAUSE = 0.005


async def until(fact: Callable[[], Any | Awaitable[Any]], within: float = 10.0) -> Any:
    """Ask until the answer is truthy, and return it.

    Raises:
        AssertionError: it was not within `within` seconds.
    """
    deadline = time.monotonic() + within
    while not (answer := await _ask(fact)):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within:g} s; last answer: {answer!r}")
        await _pause()
    return answer


async def steady(fact: Callable[[], Any | Awaitable[Any]], during: float = 0.1) -> None:
    """Ask for a while, and insist on every answer: for what must not happen.

    Raises:
        AssertionError: an answer was not truthy.
    """
    end = time.monotonic() + during
    while time.monotonic() < end:
        if not (answer := await _ask(fact)):
            raise AssertionError(f"true no longer: {answer!r}")
        await _pause()


async def _ask(fact: Callable[[], Any | Awaitable[Any]]) -> Any:
    answer = fact()
    return await answer if inspect.isawaitable(answer) else answer


async def _pause() -> None:
    with anyio.move_on_after(_PAUSE):
        await anyio.Event().wait()
