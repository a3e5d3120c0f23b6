"""Copies that handlers fork: whatever they do, they end instead of coming back into our code."""

# ruff: noqa: T201 - handlers print

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Generator

import pytest

from taskflow import task
from taskflow.core.job import Outcome
from taskflow.tasks.registry import Registry
from tests.flow.house import RunsHouse
from tests.flow.test_run_child import ROOT
from tests.support import lasting

MODULE = "tests.flow.test_run_forked"
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
GOES_ON = 99


class Turn:
    """Gives its turn to others, and asks for no loop: in a copy there is none."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def status_of(copy: int) -> int:
    """How a copy ended; one that does not is killed."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        done, status = os.waitpid(copy, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        threading.Event().wait(0.005)
    os.kill(copy, signal.SIGKILL)
    os.waitpid(copy, 0)
    return GOES_ON


def forks(how: str) -> int:
    """Fork a copy that ends in some way of Python's.

    Returns:
        In the original the status of the copy.
    """
    copy = os.fork()
    if copy:
        return status_of(copy)
    if how == "raise":
        raise ValueError
    if how == "exit":
        sys.exit(7)
    return -1


async def forks_async(how: str) -> int:
    if how == "in a task":
        return await asyncio.create_task(forks_async("await"))
    if how == "await":
        copy = os.fork()
        if copy:
            return status_of(copy)
        await Turn()
        os._exit(GOES_ON)
    return forks(how)


def target() -> None:
    """Much work, with words."""
    print("by a copy")
    sum(int(text) for text in map(str, range(10_000)))
    sys.exit(3)


def talk(n: int) -> int:
    print(f"{n}" * 9_000)
    return n


def starts() -> int | None:
    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join(10)
    return process.exitcode


@task("f.thread")
def in_thread(how: str) -> int:
    return forks(how)


@task("f.process", runs_in="process")
def in_process(how: str) -> int:
    return forks(how)


@task("f.async")
async def on_loop(how: str) -> int:
    return await forks_async(how)


@task("f.async_process", runs_in="process")
async def on_loop_of_process(how: str) -> int:
    return await forks_async(how)


@task("f.starts_thread")
def starts_thread() -> int | None:
    return starts()


@task("f.starts_process", runs_in="process")
def starts_process() -> int | None:
    return starts()


@task("f.starts_async")
async def starts_async() -> int | None:
    return starts()


@task("f.pool", runs_in="process")
def pool() -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as found:
        return found.map(talk, range(6), chunksize=1)


@task("f.forgets", runs_in="process")
def forgets(n: int) -> int:
    os.fork()
    return n


@task("f.echo", runs_in="process")
def echo(n: int) -> int:
    return n


@task("f.sleeps")
async def sleeps() -> str:
    await lasting(0.01)
    return "slept"


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunsHouse]:
    monkeypatch.chdir(ROOT)
    async with (house := RunsHouse(Registry.load([MODULE]), process=1)).runners:
        yield house


@pytest.mark.parametrize("where", ["thread", "process", "async", "async_process"])
async def test_a_copy_ends_where_it_leaves_the_handler(house: RunsHouse, where: str) -> None:
    """At once, with a status that says how; also where it would give the control back to the loop."""
    ways = {"return": 0, "raise": 1, "exit": 7}
    if where.startswith("async"):
        ways |= {"await": 0, "in a task": 0}
    for how, status in ways.items():
        ending = await house.ending(house.start(f"f.{where}", how=how))
        assert (ending.outcome, ending.result) == (Outcome.SUCCEEDED, str(status)), how
    assert await house.result("f.sleeps") == "slept"
    assert await house.result("f.echo", n=1) == 1


async def test_jobs_after_one_that_forked_have_endings_of_their_own(house: RunsHouse) -> None:
    """In whatever child they run."""
    assert await house.result("f.forgets", n=100) == 100
    assert [await house.result("f.echo", n=n) for n in range(4)] == [*range(4)]
    assert {len(endings) for endings in house.endings.values()} == {1}


@pytest.mark.parametrize("where", ["thread", "process", "async"])
async def test_processes_of_multiprocessing_do_their_work(house: RunsHouse, where: str) -> None:
    """They end by themselves, behind their target."""
    assert await house.result(f"f.starts_{where}") == 3


async def test_what_copies_print_reaches_the_job_and_disturbs_no_message(house: RunsHouse) -> None:
    """However long, and though several write at a time."""
    job_id = house.start("f.pool")
    assert (await house.ending(job_id)).result == "[0,1,2,3,4,5]"
    assert sum(len(line) for line in house.messages(job_id)) == 6 * 9_000
    job_id = house.start("f.starts_process")
    assert (await house.ending(job_id)).result == "3"
    assert house.messages(job_id) == ["by a copy"]
