"""Children that do not start: no job pays for them, and none is claimed for them meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskflow.core.job import Outcome, RunsIn
from taskflow.flow.run import children
from taskflow.tasks.registry import Registry
from tests.flow.house import RunsHouse
from tests.support import until

TASKS = """
import os
from pathlib import Path
from taskflow import task

if Path({flag!r}).exists():
    raise ImportError("half deployed")

@task("u.pid", runs_in="process")
def pid() -> int:
    return os.getpid()
"""


@pytest.fixture
def flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.1)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "unstartable_tasks.py").write_text(TASKS.format(flag=str(tmp_path / "flag")))
    return tmp_path / "flag"


@pytest.fixture
async def house(flag: Path) -> AsyncIterator[RunsHouse]:
    async with (house := RunsHouse(Registry.load(["unstartable_tasks"]), process=2)).runners:
        yield house
    sys.modules.pop("unstartable_tasks")


def deploy(flag: Path, *, half: bool) -> None:
    """Make the modules importable, or not."""
    if half:
        flag.touch()
    else:
        flag.unlink()


async def interrupted(house: RunsHouse, crashes: int = 0) -> str:
    """Why a job was not run, for which it was not charged."""
    ending = await house.ending(house.start("u.pid", crashes=crashes))
    assert ending.outcome is Outcome.INTERRUPTED
    return str(ending.error)


async def test_modules_that_cannot_be_imported_for_a_moment(house: RunsHouse, flag: Path) -> None:
    """As in a deploy: slots for children are closed, with the reason, until one starts again, by itself."""
    deploy(flag, half=True)
    assert "half deployed" in await interrupted(house)
    assert "half deployed" in str(house.runners.broken)
    assert (house.runners.free(RunsIn.PROCESS), house.runners.isolation_free) == (0, False)
    assert house.runners.free(RunsIn.ASYNC) == 8
    # Claimed before that was known; and a suspect of which it proves nothing.
    assert "half deployed" in await interrupted(house, crashes=2)
    deploy(flag, half=False)
    await until(lambda: house.runners.broken is None)
    assert (house.runners.free(RunsIn.PROCESS), house.runners.isolation_free) == (2, True)
    [waiting] = house.runners._children._idle
    assert await house.result("u.pid") == waiting.process.pid


async def test_a_system_that_starts_no_process(house: RunsHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, or whatever: it is nobody's failure."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        assert "could not be started" in await interrupted(house)
        assert house.runners.free(RunsIn.PROCESS) == 0
    await until(lambda: house.runners.broken is None)
    await house.result("u.pid")


async def test_the_end_of_the_runners_does_not_wait_for_a_child_that_starts(house: RunsHouse, flag: Path) -> None:
    """Neither in the pause nor in the try."""
    deploy(flag, half=True)
    await interrupted(house)
    async with asyncio.timeout(4):
        await house.runners._children.close()


async def test_an_idle_child_that_dies_before_it_begins(house: RunsHouse) -> None:
    """Its death proves nothing about a job that was only sent to it, and nothing about the next child."""
    pid = await house.result("u.pid")
    os.kill(pid, signal.SIGSTOP)
    job_id = house.start("u.pid", crashes=2)
    [child] = await until(lambda: house.runners._children._busy)
    await until(lambda: child._current)
    os.kill(pid, signal.SIGKILL)
    assert await house.outcome(job_id) is Outcome.INTERRUPTED
    assert house.runners.isolation_free
    assert await house.result("u.pid") != pid
