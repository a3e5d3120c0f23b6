"""Call a handler: payload to arguments, value or exception to ending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from taskflow.core.errors import Invalid
from taskflow.core.job import ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending
from taskflow.tasks.context import Context
from taskflow.tasks.declare import Task
from taskflow.tasks.ending import ending_of_error, ending_of_value


async def call_async(task: Task[..., Any], payload: str, context: Callable[[], Context]) -> Ending:
    """Run an `async def` handler on this loop; its context is made if it wants one. Cancellation that nobody asked for is a failure like any other."""
    try:
        args, kwargs = task.signature.bind(payload, context)
        return ending_of_value(await task.function(*args, **kwargs))
    except Invalid as error:
        return _misfit(error)
    except asyncio.CancelledError as error:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        return ending_of_error(task, error)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return ending_of_error(task, error)


def call_sync(task: Task[..., Any], payload: str, context: Callable[[], Context]) -> Ending:
    """Run a `def` handler on this thread; its context is made if it wants one."""
    try:
        args, kwargs = task.signature.bind(payload, context)
        return ending_of_value(task.function(*args, **kwargs))
    except Invalid as error:
        return _misfit(error)
    except BaseException as error:
        return ending_of_error(task, error)


def _misfit(error: Invalid) -> Ending:
    message = f"the payload does not fit the task's parameters: {error}"
    return Ending(outcome=Outcome.FAILED, error=ErrorInfo("PayloadMismatch", message[:2_000]), final=True)
