"""Call a handler: payload to arguments, value or exception to ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from taskflow.core.errors import Invalid
from taskflow.core.job import ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending
from taskflow.flow.run import forked
from taskflow.tasks.context import Context
from taskflow.tasks.declare import Task
from taskflow.tasks.ending import ending_of_error, ending_of_value


async def call_async(task: Task[..., Any], payload: str, context: Callable[[], Context]) -> Ending:
    """Run an `async def` handler on this loop; its context is made if it wants one. Cancellation that nobody asked for is a failure like any other."""
    origin = forked.generation
    try:
        args, kwargs = task.signature.bind(payload, context)
        value = await task.function(*args, **kwargs)
        forked.end_copy(origin)
        return ending_of_value(value)
    except BaseException as error:
        forked.end_copy(origin, error)
        current = asyncio.current_task()
        match error:
            case Invalid():
                return _misfit(error)
            case asyncio.CancelledError() if current is not None and current.cancelling():
                raise
            case _:
                return ending_of_error(task, error)


def call_sync(task: Task[..., Any], payload: str, context: Callable[[], Context]) -> Ending:
    """Run a `def` handler on this thread; its context is made if it wants one."""
    origin = forked.generation
    try:
        args, kwargs = task.signature.bind(payload, context)
        value = task.function(*args, **kwargs)
        forked.end_copy(origin)
        return ending_of_value(value)
    except BaseException as error:
        forked.end_copy(origin, error)
        return _misfit(error) if isinstance(error, Invalid) else ending_of_error(task, error)


def _misfit(error: Invalid) -> Ending:
    message = f"the payload does not fit the task's parameters: {error}"
    return Ending(outcome=Outcome.FAILED, error=ErrorInfo("PayloadMismatch", message[:2_000]), final=True)
