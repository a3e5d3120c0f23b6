"""The registry: exactly what the named modules declare."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from taskflow.core.job import RunsIn
from taskflow.tasks.registry import CannotLoad, Registry

COMMON = """
from taskflow import lifespan, task
@task("mine.one")
async def one() -> None: ...
@task("mine.two", runs_in="process")
def two() -> None: ...
@lifespan
async def resources():
    yield {}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Writes a module beside the user, who is in `tmp_path`; forgets it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names: list[str] = []

    def write_module(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    yield write_module
    for name in names:
        sys.modules.pop(name, None)


def test_a_module_beside_the_user_is_found(write: object) -> None:
    """Its tasks, by kind, and its lifespans; nothing of modules that are not named."""
    name = write("reg_plain", COMMON)  # type: ignore[operator]
    registry = Registry.load([name, name])
    assert list(registry.tasks) == ["mine.one", "mine.two"]
    assert [task.name for task in registry.by_kind(RunsIn.PROCESS)] == ["mine.two"]
    assert registry.by_kind(RunsIn.THREAD) == []
    assert len(registry.lifespans) == 1
    assert registry.modules == (name, name)


def test_a_task_that_is_imported_is_the_same_task(write: object) -> None:
    """Two modules may both have it."""
    first = write("reg_first", COMMON)  # type: ignore[operator]
    second = write("reg_second", "from reg_first import one, two, resources\nalias = one\n")  # type: ignore[operator]
    registry = Registry.load([first, second])
    assert (list(registry.tasks), len(registry.lifespans)) == (["mine.one", "mine.two"], 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_thing", "no_such_thing"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("import sys\nsys.exit(3)", "SystemExit"),
        ("from taskflow import task\n@task('a b')\ndef f() -> None: ...", "'a b'"),
        ("from taskflow import task\n@task('wrong')\ndef f(*args: int) -> None: ...", "'wrong'"),
        (COMMON + "\n@task('mine.one')\ndef again() -> None: ...", "declared twice"),
    ],
)
def test_what_cannot_be_loaded_says_why(write: object, text: str, told: str) -> None:
    """One error type for all of it, with the task or the module; a module that exits does not end the worker."""
    name = write("reg_broken", text)  # type: ignore[operator]
    with pytest.raises(CannotLoad, match=told):
        Registry.load([name])


def test_test_tasks_are_never_there_unless_named() -> None:
    """Not by importing anything else."""
    assert not [name for name in Registry.load(["taskflow.demo"]).tasks if name.startswith("test.")]
    assert "test.effect" in Registry.load(["taskflow.testing.tasks"]).tasks
