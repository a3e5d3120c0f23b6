"""Run a task in a test, without a server: the payload is checked and the ending decided as in production."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from taskflow.core.errors import Invalid, NotFound
from taskflow.core.ids import new_id
from taskflow.core.job import ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending
from taskflow.tasks import jsonread, jsontext
from taskflow.tasks.context import Context, JobInfo
from taskflow.tasks.declare import Task
from taskflow.tasks.ending import ending_of_error, ending_of_value
from taskflow.tasks.payload import checker


@dataclass(slots=True)
class RunResult:
    """What a run did.

    Attributes:
        ending: how it ended, as a worker would settle it.
        result: what the job's result would be, read back from JSON.
        logs: (level, message, fields) of `ctx.log`.
        progress: (fraction, message) in order.
        artifacts: bytes by name.
    """

    ending: Ending = field(default_factory=lambda: Ending(outcome=Outcome.SUCCEEDED))
    result: Any = None
    logs: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    progress: list[tuple[float, str | None]] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """succeeded, failed, snoozed or cancelled."""
        return self.ending.outcome

    @property
    def error(self) -> ErrorInfo | None:
        """Why it failed."""
        return self.ending.error

    @property
    def after(self) -> float | None:
        """Seconds that the handler asked to wait."""
        return self.ending.after

    @property
    def final(self) -> bool:
        """Whether no retry would follow, whatever attempts are left."""
        return self.ending.final


def run(
    task: Task[..., Any],
    payload: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    resources: Mapping[str, Any] | None = None,
    artifacts: Mapping[str, bytes] | None = None,
    cancelled: bool = False,
) -> RunResult:
    """Run one attempt of a task here.

    Args:
        task: the decorated function.
        payload: what would be submitted.
        attempt: the attempt's number.
        resources: stands for what lifespans open.
        artifacts: files that the job has already.
        cancelled: what `ctx.cancelled` says; a handler that does not succeed then ends as cancelled.

    An `async def` runs on a loop of its own, in a thread where the caller has one running.

    Raises:
        Invalid: a submit would be refused; names the fields.
    """
    text = jsontext.dumps(dict(payload or {}))
    errors = checker(task.signature.schema).errors(jsonread.loads(text))
    if errors:
        raise Invalid(errors)
    done = RunResult(artifacts=dict(artifacts or {}))
    job = JobInfo(
        id=new_id(), task=task.name, queue=task.queue, priority=5, run=1, tags=(), metadata={},
        created_at=datetime.now(UTC),
    )  # fmt: skip
    effects = _Effects(done, cancelled)
    context = Context(job, attempt=attempt, epoch=attempt, worker="test", effects=effects, resources=resources)
    args, kwargs = task.signature.bind(text, lambda: context)
    try:
        ending = ending_of_value(_call(task.function, args, kwargs))
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        ending = ending_of_error(task, error)
    if cancelled and ending.outcome is not Outcome.SUCCEEDED:
        ending = Ending(outcome=Outcome.CANCELLED)
    done.ending = ending
    done.result = None if ending.result is None else json.loads(ending.result)
    return done


def _call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if not inspect.iscoroutinefunction(function):
        return function(*args, **kwargs)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(function(*args, **kwargs))
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, function(*args, **kwargs)).result()


class _Effects:
    def __init__(self, done: RunResult, cancelled: bool) -> None:  # noqa: FBT001 - private
        self._done = done
        self._cancelled = cancelled

    def emit_log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self._done.logs.append((level, message, dict(fields)))

    def set_progress(self, fraction: float, message: str | None) -> None:
        self._done.progress.append((fraction, message))

    async def put_artifact(self, name: str, data: bytes, content_type: str) -> None:
        self.put_artifact_sync(name, data, content_type)

    async def get_artifact(self, name: str) -> bytes:
        return self.get_artifact_sync(name)

    def put_artifact_sync(self, name: str, data: bytes, content_type: str) -> None:  # noqa: ARG002 - kept by name only
        self._done.artifacts[name] = data

    def get_artifact_sync(self, name: str) -> bytes:
        if name not in self._done.artifacts:
            raise NotFound(f"the job has no artifact {name!r}")
        return self._done.artifacts[name]

    def is_cancelled(self) -> bool:
        return self._cancelled
