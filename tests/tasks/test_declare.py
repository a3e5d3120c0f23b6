"""Declaring tasks: what the decorator accepts, what the payload must look like, how endings come about."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, assert_type

import pytest
from pydantic import BaseModel

from taskflow import Context, Fail, Retry, RetryPolicy, Snooze, lifespan, task
from taskflow.core.errors import Invalid
from taskflow.core.job import Outcome, RunsIn
from taskflow.tasks.declare import BadTask
from taskflow.tasks.payload import checker
from taskflow.tasks.registry import CannotLoad, Registry, UnknownTask
from taskflow.testing import run
from tests.tasks import typing_checks


class Mail(BaseModel):
    """A payload."""

    to: str
    copies: int = 1


@task("a.keywords", timeout="10m", retry=RetryPolicy(attempts=3))
async def keywords(ctx: Context, customer: int, month: str = "2026-11") -> dict[str, Any]:
    """Build a report."""
    ctx.log.info("building", customer=customer)
    ctx.progress(0.5, "half")
    await ctx.artifacts.put("report.txt", b"data")
    return {"customer": customer, "month": month, "attempt": ctx.attempt}


@task("a.model")
def model(mail: Mail) -> str:
    """Send a mail."""
    return f"{mail.to} x{mail.copies}"


@task("a.open", runs_in="process", memory="512MiB")
def open_ended(first: int, **payload: Any) -> dict[str, Any]:
    """Take whatever comes."""
    return {"first": first, **payload}


def test_a_declared_function_stays_what_it_was() -> None:
    """Callable and typed; mypy checks the assert_type lines."""
    assert_type(model(Mail(to="x")), str)
    assert model(Mail(to="x")) == "x x1"
    assert model.__doc__ == "Send a mail."


def test_what_the_catalogue_is_told() -> None:
    """Name, kind, policy and description."""
    info = keywords.info
    assert (info.name, info.runs_in, info.timeout, info.max_attempts) == ("a.keywords", RunsIn.ASYNC, 600, 3)
    assert info.description == "Build a report."
    assert (model.info.runs_in, open_ended.info.runs_in, open_ended.memory) == (
        RunsIn.THREAD,
        RunsIn.PROCESS,
        512 << 20,
    )


@pytest.mark.parametrize(
    ("payload", "pointers"),
    [
        ({"customer": 7}, []),
        ({"customer": 10**30}, []),
        ({"customer": "7"}, ["/payload/customer"]),
        ({"customer": True}, ["/payload/customer"]),
        ({}, ["/payload/customer"]),
        ({"customer": 7, "month": None, "extra": 1}, ["/payload", "/payload/month"]),
    ],
)
def test_nothing_is_coerced(payload: dict[str, Any], pointers: list[str]) -> None:
    """What does not fit is named."""
    assert sorted(error.pointer for error in checker(keywords.info.schema).errors(payload)) == pointers


def test_a_run_in_a_test() -> None:
    """As in production, without a server."""
    done = run(keywords, {"customer": 7}, attempt=2)
    assert done.result == {"customer": 7, "month": "2026-11", "attempt": 2}
    assert done.logs == [("info", "building", {"customer": 7})]
    assert (done.progress, done.artifacts) == ([(0.5, "half")], {"report.txt": b"data"})
    assert run(model, {"to": "a"}).result == "a x1"
    assert run(open_ended, {"first": 1, "huge": 10**30}).result == {"first": 1, "huge": 10**30}
    with pytest.raises(Invalid, match="customer"):
        run(keywords, {})


@pytest.mark.parametrize(
    ("raised", "outcome", "after", "final"),
    [
        (Retry(after=30), Outcome.FAILED, 30, False),
        (Snooze("1m"), Outcome.SNOOZED, 60, False),
        (Fail("no"), Outcome.FAILED, None, True),
        (KeyError("k"), Outcome.FAILED, None, True),
        (ValueError("v"), Outcome.FAILED, None, False),
    ],
)
def test_verdicts(raised: Exception, outcome: Outcome, after: float | None, final: bool) -> None:
    """What a handler raises says how its run ended."""

    @task("a.raises", retry=RetryPolicy(give_up_on=(KeyError,)))
    def raises() -> None:
        raise raised

    done = run(raises)
    assert (done.outcome, done.after, done.final) == (outcome, after, final)


class Unprintable(Exception):
    """An error whose text cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [Unprintable(), ValueError("a\0b\ud800"), ValueError("x" * 100_000)])
def test_errors_can_always_be_kept(error: Exception) -> None:
    """Whatever they hold: 16 KiB at most, no NUL, no half characters."""

    @task("a.breaks")
    def breaks() -> None:
        raise error

    found = run(breaks).error
    assert found is not None
    text = json.dumps([found.message, found.traceback], ensure_ascii=False)
    assert len(text.encode()) <= 16 << 10
    assert "\0" not in text


@pytest.mark.parametrize(
    "options",
    [{"name": "a b"}, {"name": ""}, {"name": 5}, {"name": "x" * 129}, {"queue": ""}, {"queue": None}, {"timeout": "2d"},
     {"timeout": 0}, {"timeout": "soon"}, {"timeout": None}, {"timeout": True}, {"timeout": "9" * 400 + "h"},
     {"memory": "1MiB"}, {"memory": "0MiB", "runs_in": "process"}, {"memory": 512, "runs_in": "process"},
     {"memory": "1TB", "runs_in": "process"}, {"runs_in": "thread"}, {"runs_in": "fork"}, {"retry": 5},
     {"retry": RetryPolicy(base=1e12, cap=1e12)}],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_where_it_is_written(options: dict[str, Any]) -> None:
    """With the value, shortly."""
    with pytest.raises(BadTask) as caught:

        @task(**{"name": "a.wrong", **options})
        async def wrong() -> None:
            pass

    assert len(str(caught.value)) < 600


def test_a_task_needs_its_name() -> None:
    """`@task` alone says what to write."""

    def forgot() -> None: ...

    with pytest.raises(BadTask, match=r"@task\('reports\.build'\) above 'forgot'"):
        task(forgot)  # type: ignore[arg-type]


def test_what_runs_where() -> None:
    """By the kind of function, unless a process is asked for; what cannot be is refused."""

    async def coroutine() -> None: ...

    def plain() -> None: ...

    def generator() -> Any:
        yield 1

    assert [task("a.kind")(coroutine).runs_in, task("a.kind")(plain).runs_in] == [RunsIn.ASYNC, RunsIn.THREAD]
    assert {task("a.kind", runs_in="process")(f).runs_in for f in (coroutine, plain)} == {RunsIn.PROCESS}
    wrong: list[tuple[Any, Any]] = [(plain, "async"), (coroutine, "thread"), (generator, None), (print, None)]
    for function, asked in wrong:
        with pytest.raises(BadTask):
            task("a.kind", runs_in=asked)(function)


def test_types_are_kept() -> None:
    """What mypy checks there is true when it runs, too."""
    typing_checks.what_fits()


def test_parameters_that_json_cannot_fill_are_refused() -> None:
    """When the registry is made, not when a job comes."""

    @task("a.stars")
    def stars(*args: int) -> None:
        pass

    with pytest.raises(BadTask, match=r"\*args"):
        _ = stars.info


def test_a_registry_refuses_two_tasks_of_one_name_and_helps_with_wrong_ones() -> None:
    """And finds what a module declares."""
    registry = Registry.load(["taskflow.demo", "taskflow.testing.tasks"])
    assert "demo.echo" in registry.tasks
    with pytest.raises(UnknownTask, match=r"demo\.echo"):
        registry.get("demo.ecco")
    twin = task("a.model")(lambda: None)
    with pytest.raises(CannotLoad, match="twice"):
        Registry([model, twin])
    with pytest.raises(CannotLoad, match="no_such_module"):
        Registry.load(["no_such_module"])


def test_a_lifespan_is_an_async_generator_function() -> None:
    """Anything else is refused."""

    @lifespan
    async def resources() -> AsyncIterator[dict[str, Any]]:
        yield {"pool": 1}

    with pytest.raises(BadTask):
        lifespan(lambda: None)  # type: ignore[arg-type,return-value]
    assert run(keywords, {"customer": 1}, resources={"pool": 1}).outcome is Outcome.SUCCEEDED
