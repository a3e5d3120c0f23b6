"""What mypy must see in a decorated function: every line is checked by `mypy --strict`, where an ignore that is not
needed is an error, and run by test_declare."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, assert_type

from taskflow import Context, lifespan, task
from taskflow.tasks.declare import Lifespan, Task


@task("typed.async")
async def build(customer: int, month: str = "2026-11") -> dict[str, int]:
    """A coroutine function stays one."""
    return {month: customer}


@task("typed.thread")
def add(a: int, b: int = 2) -> int:
    """A plain function stays one."""
    return a + b


@task("typed.process", runs_in="process")
def scale(value: float, *, by: float = 2.0) -> float:
    """Keyword-only parameters stay so."""
    return value * by


@task("typed.context")
def note(ctx: Context, **payload: str) -> None:
    """The context is a parameter like any other."""
    ctx.log.info("note", **payload)


@lifespan
async def resources() -> AsyncIterator[dict[str, int]]:
    """Resources of a worker."""
    yield {"answer": 42}


def what_fits() -> None:
    """Results and parameters are those of the function."""
    running = assert_type(build(7, month="2026-12"), Coroutine[Any, Any, dict[str, int]])
    running.close()
    assert_type(add(1), int)
    assert_type(scale(1.5, by=3), float)
    assert_type(resources, Lifespan)
    assert_type(resources(), AsyncIterator[Mapping[str, Any]])
    named: Task[..., int] = add
    assert_type(named.name, str)


def what_does_not_fit() -> None:
    """Never called: mypy must refuse each line."""
    add("1")  # type: ignore[arg-type]
    add(1, c=3)  # type: ignore[call-arg]
    scale(1.5, 3)  # type: ignore[call-arg]
    note()  # type: ignore[call-arg]
    task("typed.wrong", runs_in="fork")  # type: ignore[arg-type]
