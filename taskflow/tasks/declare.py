"""`@task` and `@lifespan`: how a program tells TaskFlow what it can run."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cached_property, update_wrapper
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar

from taskflow.core.durations import seconds
from taskflow.core.job import RunsIn
from taskflow.core.limits import DEFAULT_QUEUE, HORIZON_SECONDS, TIMEOUT_SECONDS, TIMEOUT_SECONDS_MAX, is_name
from taskflow.core.retry import RetryPolicy
from taskflow.ports.store import TaskInfo
from taskflow.tasks.payload import Signature

P = ParamSpec("P")
R = TypeVar("R")
_SIZE: Final = re.compile(r"([1-9][0-9]{0,8})(KiB|MiB|GiB)")
_UNITS: Final = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class BadTask(ValueError):
    """A declaration breaks the rules; the message says which task, which value and what to do."""


class Task(Generic[P, R]):
    """A declared handler: still callable as the function it was, and a row of the catalogue.

    Attributes:
        name: what jobs call it.
        function: the function itself.
        retry: when a failed attempt is tried again.
        timeout: seconds an attempt may take.
        runs_in: what its runs use.
        memory: bytes of address space a child process may use, or `None`.
    """

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        *,
        queue: str,
        retry: RetryPolicy,
        timeout: float,
        runs_in: RunsIn,
        memory: int | None,
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.name = name
        self.queue = queue
        self.retry = retry
        self.timeout = timeout
        self.runs_in = runs_in
        self.memory = memory

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    @cached_property
    def signature(self) -> Signature:
        """How the payload becomes arguments.

        Raises:
            BadTask: a parameter cannot be filled from JSON.
        """
        try:
            return Signature.of(self.function)
        except TypeError as error:
            raise BadTask(f"task {self.name!r}: {error}") from error

    @cached_property
    def info(self) -> TaskInfo:
        """The row of the catalogue."""
        return TaskInfo(
            name=self.name,
            queue=self.queue,
            runs_in=self.runs_in,
            schema=self.signature.schema,
            timeout=self.timeout,
            max_attempts=self.retry.attempts,
            description=_first_line(self.function),
        )


class Lifespan:
    """A function that opens what the handlers of a worker share, and closes it at the end."""

    def __init__(self, function: Callable[[], AsyncIterator[Mapping[str, Any]]]) -> None:
        self.function = function

    def __call__(self) -> AsyncIterator[Mapping[str, Any]]:
        return self.function()


def task(
    name: str,
    *,
    queue: str = DEFAULT_QUEUE,
    retry: RetryPolicy | None = None,
    timeout: float | str = TIMEOUT_SECONDS,
    runs_in: Literal["async", "thread", "process"] | None = None,
    memory: str | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Declare a function as the handler of a task.

    Args:
        name: what jobs call it: letters, digits, `._:-`, 128 at most.
        queue: where its jobs go unless they say otherwise.
        retry: when a failed attempt is tried again; five attempts by default.
        timeout: seconds (or `"10m"`) an attempt may take, 24 hours at most.
        runs_in: `"process"` runs it in a child that can be killed; by default `async def` runs on the worker's loop and
            `def` in a thread.
        memory: most memory of a child, such as `"512MiB"`; for `runs_in="process"` only.

    Raises:
        BadTask: a value is out of its range; the message names it.
    """
    if callable(name):
        raise BadTask(f"@task needs a name: write @task('reports.build') above {getattr(name, '__name__', name)!r}")
    for what, text in (("name", name), ("queue", queue)):
        if not (isinstance(text, str) and is_name(text)):
            raise BadTask(
                f"task {name!r:.200}: {what} {text!r:.200} must be 1 to 128 letters, digits, '.', '_', ':' or '-'"
            )
    limit = _timeout(name, timeout)
    policy = _policy(name, retry)

    def declare(function: Callable[P, R]) -> Task[P, R]:
        kind = _kind(name, function, runs_in)
        if memory is not None and kind is not RunsIn.PROCESS:
            raise BadTask(f"task {name!r}: memory={memory!r} needs runs_in='process'")
        return Task(
            function,
            name,
            queue=queue,
            retry=policy,
            timeout=limit,
            runs_in=kind,
            memory=_bytes(name, memory),
        )

    return declare


def lifespan(function: Callable[[], AsyncIterator[Mapping[str, Any]]]) -> Lifespan:
    """Declare an async generator function that yields a mapping once: what handlers find in `ctx.resources`."""
    if not inspect.isasyncgenfunction(function):
        raise BadTask(f"@lifespan needs an async generator function that yields a mapping, not {function!r}")
    return Lifespan(function)


def _timeout(name: str, timeout: float | str) -> float:
    try:
        limit = seconds(timeout)
    except (TypeError, ValueError):
        limit = 0.0
    if not 0 < limit <= TIMEOUT_SECONDS_MAX:
        raise BadTask(
            f"task {name!r}: timeout={timeout!r:.80}: use seconds or a text such as '10m', more than 0 and at most 24h"
        )
    return limit


def _policy(name: str, retry: RetryPolicy | None) -> RetryPolicy:
    if retry is None:
        return RetryPolicy()
    if not isinstance(retry, RetryPolicy):
        raise BadTask(f"task {name!r}: retry={retry!r:.80}: use a RetryPolicy, such as RetryPolicy(attempts=3)")
    if float(retry.cap) > HORIZON_SECONDS:
        raise BadTask(f"task {name!r}: retry: cap={retry.cap!r} must be 5 years ({HORIZON_SECONDS} seconds) at most")
    return retry


def _kind(name: str, function: Callable[..., Any], asked: str | None) -> RunsIn:
    if not inspect.isfunction(function):
        raise BadTask(f"task {name!r}: {function!r} is no function")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise BadTask(f"task {name!r}: a generator cannot be a handler; return a value instead of yielding")
    is_async = inspect.iscoroutinefunction(function)
    if asked not in (None, *RunsIn):
        raise BadTask(f"task {name!r}: runs_in={asked!r}: use 'async', 'thread' or 'process', or leave it out")
    kind = RunsIn(asked) if asked else RunsIn.ASYNC if is_async else RunsIn.THREAD
    if is_async and kind is RunsIn.THREAD:
        raise BadTask(f"task {name!r}: an async def runs on the worker's loop or in a process, not in a thread")
    if not is_async and kind is RunsIn.ASYNC:
        raise BadTask(f"task {name!r}: a plain def cannot run on the worker's loop; leave runs_in out for a thread")
    return kind


def _bytes(name: str, memory: str | None) -> int | None:
    if memory is None:
        return None
    match = _SIZE.fullmatch(memory) if isinstance(memory, str) else None
    if not match:
        raise BadTask(f"task {name!r}: memory={memory!r:.80}: use a text such as '512MiB'")
    return int(match[1]) * _UNITS[match[2]]


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0][:200]
