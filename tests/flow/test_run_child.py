"""Child processes: killable, watched, and gone with their worker, with its lease and with their run."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskflow.core.job import Outcome, RunsIn
from taskflow.flow.run import StopReason
from taskflow.tasks.registry import Registry
from tests.flow.house import RunsHouse
from tests.support import until, until_sync

ROOT = Path(__file__).parents[2]
MODULE = "tests.flow.child_tasks"


def gone(pid: int) -> bool:
    """Whether a process is dead, be it that nobody has buried it yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def opened(process: int, lease: float = 60.0) -> RunsHouse:
    return RunsHouse(Registry.load([MODULE]), lease=lease, process=process)


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunsHouse]:
    monkeypatch.chdir(ROOT)
    async with (house := opened(process=2)).runners:
        yield house


async def pid_of(house: RunsHouse, job_id: str) -> int:
    """What a handler that hangs has printed."""
    await until(lambda: house.messages(job_id), 20)
    return int(house.messages(job_id)[0])


async def test_a_child_is_used_again_and_has_resources_of_its_own(house: RunsHouse) -> None:
    """Opened once a child, for sync and async handlers alike."""
    first, opened_in = await house.result("c.pid")
    assert first == opened_in != os.getpid()
    assert await house.result("c.async_pid") == first
    assert await house.result("c.pid") == [first, first]


async def test_what_a_child_writes_reaches_its_job(house: RunsHouse) -> None:
    """Lines from all the ways to write one, progress, files; nothing of it disturbs the messages."""
    job_id = house.start("c.writes")
    ending = await house.ending(job_id)
    assert ending.outcome is Outcome.SUCCEEDED, ending
    assert ending.result == '"006279746573"'
    mine = ["printed", "logged 1", "said \\ud800\\u0000"]
    raw = ["written by C", "by a grandchild", "the last, without an end"]
    assert sorted(house.messages(job_id)) == sorted(mine + raw)
    assert json.loads(house.progress.take(job_id, 1, "w") or "") == {"fraction": 0.5, "message": "half \\ud800"}
    assert list(house.objects.kept.values()) == [b"\0bytes"]
    assert await house.result("c.writes_async") == "async"


async def test_a_child_that_ignores_everything_is_killed_at_its_timeout(house: RunsHouse) -> None:
    """Its slot comes back, and the next run has another child."""
    await asyncio.gather(house.result("c.pid"), house.result("c.pid"))
    hung = [house.start("c.hang", 2), house.start("c.hang", 2)]
    assert house.runners.free(RunsIn.PROCESS) == 0
    pids = [await pid_of(house, job_id) for job_id in hung]
    assert {await house.outcome(job_id) for job_id in hung} == {Outcome.TIMEOUT}
    assert house.runners.free(RunsIn.PROCESS) == 2
    assert all(map(gone, pids))
    assert house.runners.abandoned == 0
    assert (await house.result("c.pid"))[0] not in pids


async def test_the_start_of_a_child_costs_its_run_no_time(house: RunsHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout is the handler's; where a child is not there in time at all, its run is given back."""
    assert (await house.ending(house.start("c.pid", 0.05))).outcome is Outcome.SUCCEEDED
    hung = house.start("c.hang", 0.3)
    assert await house.outcome(hung) is Outcome.TIMEOUT
    monkeypatch.setattr(importlib.import_module("taskflow.flow.run.run"), "BEGIN", 0.05)
    assert await house.outcome(house.start("c.hang", 0.05)) is Outcome.INTERRUPTED
    assert house.runners.free(RunsIn.PROCESS) == 2


async def test_a_kill_takes_the_children_of_the_child_along(house: RunsHouse) -> None:
    """A run leaves nothing behind that goes on."""
    job_id = house.start("c.family")
    grandchild = await pid_of(house, job_id)
    house.runners.stop(job_id, 1, StopReason.LOST)
    assert await house.outcome(job_id) is Outcome.LOST
    await until(lambda: gone(grandchild))


async def test_a_handler_has_no_children_but_its_own(house: RunsHouse) -> None:
    """One that waits for all of them must not wait for one of ours."""
    assert await house.result("c.reaps") == 1


@pytest.mark.parametrize("how", ["close", "replace"])
async def test_a_child_without_its_standard_error_is_not_used_again(house: RunsHouse, how: str) -> None:
    """The next run would pay for it: with lines that are lost, or with a wait for a mark that never comes."""
    [first, _] = await house.result("c.pid")
    assert await house.result("c.closes_errors", how=how) is None
    begun = time.monotonic()
    job_id = house.start("c.writes")
    assert await house.outcome(job_id) is Outcome.SUCCEEDED
    assert "written by C" in house.messages(job_id)
    assert (await house.result("c.pid"))[0] != first
    assert time.monotonic() - begun < 10


async def test_a_line_that_is_too_long_is_cut_and_not_lost(house: RunsHouse) -> None:
    """Its begin is kept with a mark, and the lines around it are whole."""
    job_id = house.start("c.long_line")
    assert await house.outcome(job_id) is Outcome.SUCCEEDED
    lines = house.messages(job_id)
    assert [line[:5] for line in lines] == ["befor", "xxxxx", "after"]
    assert lines[1].endswith("…")


async def test_a_cancelled_child_may_end_by_itself_for_a_while(house: RunsHouse) -> None:
    """One that does is used again; one that does not is killed."""
    polite, rude = house.start("c.polite"), house.start("c.hang")
    pids = [await pid_of(house, job_id) for job_id in (polite, rude)]
    for job_id in (polite, rude):
        house.runners.stop(job_id, 1, StopReason.CANCELLED)
    assert [await house.outcome(job_id) for job_id in (polite, rude)] == [Outcome.CANCELLED] * 2
    assert not gone(pids[0])
    assert gone(pids[1])
    assert (await house.result("c.pid"))[0] == pids[0]


async def test_a_stop_that_comes_before_the_child_is_there(house: RunsHouse) -> None:
    """Ends the run all the same, without a handler."""
    job_id = house.start("c.hang")
    house.runners.stop(job_id, 1, StopReason.CANCELLED)
    assert await house.outcome(job_id) is Outcome.CANCELLED
    assert house.messages(job_id) == []


async def test_handlers_cannot_touch_the_messages_by_reading(house: RunsHouse) -> None:
    """Neither the handler's standard input nor its children's is the pipe."""
    assert await house.result("c.stdin") == ["", ""]


@pytest.mark.parametrize(
    ("task", "how"), [("c.exits", "exited with status 3"), ("c.dies", "was killed by SIGKILL (9)")]
)
async def test_a_child_that_dies_is_a_failure_that_says_how(house: RunsHouse, task: str, how: str) -> None:
    """And no reason for anything else to fail."""
    ending = await house.ending(house.start(task))
    assert ending.outcome is Outcome.FAILED
    assert ending.error is not None
    assert ending.error.type == "ProcessDied"
    assert how in ending.error.message
    await house.result("c.pid")


async def test_a_suspect_runs_in_a_child_whatever_its_kind(house: RunsHouse) -> None:
    """In the isolation slot; only there its death is a crash."""
    job_id = house.start("c.worker_pid", crashes=2)
    assert house.runners._isolated == 1
    assert house.runners.free(RunsIn.ASYNC) == 8
    assert (await house.ending(job_id)).result != str(os.getpid())
    assert house.runners.isolation_free
    assert await house.outcome(house.start("c.crash", crashes=2)) is Outcome.CRASHED
    assert await house.result("c.worker_pid") == os.getpid()


async def test_memory_is_limited_where_the_task_says_so(house: RunsHouse) -> None:
    """A handler that wants more fails alone; the limit does not stay with the child."""
    ending = await house.ending(house.start("c.eats", mebibytes=2_000))
    assert ending.outcome is Outcome.FAILED
    assert ending.error is not None
    assert ending.error.type == "MemoryError"
    assert await house.result("c.eats", mebibytes=10) == 10
    await house.result("c.pid")


async def test_a_dead_idle_child_is_replaced(house: RunsHouse) -> None:
    """It is nobody's failure that something killed it meanwhile."""
    [pid, _] = await house.result("c.pid")
    os.kill(pid, 9)
    await until(lambda: gone(pid))
    [child] = house.runners._children._idle
    await until(lambda: not child.lives)
    assert (await house.result("c.pid"))[0] != pid


async def test_a_child_dies_with_its_workers_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats that are accepted keep it alive; without them it kills itself. Idle, it needs no lease."""
    monkeypatch.chdir(ROOT)
    async with (house := opened(lease=2.0, process=1)).runners:
        [idle, _] = await house.result("c.pid")
        end = time.monotonic() + 2.5
        await until(lambda: time.monotonic() > end)
        assert not gone(idle)
        job_id = house.start("c.hang")
        assert await pid_of(house, job_id) == idle
        end = time.monotonic() + 3

        def beat() -> bool:
            house.runners.beat_accepted(2.0)
            return time.monotonic() > end

        await until(beat)
        assert house.endings[job_id] == []
        ending = await house.ending(job_id, 10)
        assert "SIGKILL" in str(ending.error)


async def test_the_end_of_the_runners_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither idle nor busy nor on its way."""
    monkeypatch.chdir(ROOT)
    async with (house := opened(process=3)).runners:
        [idle, _] = await house.result("c.pid")
        jobs = [house.start("c.hang"), house.start("c.hang")]
        pids = [await pid_of(house, job_id) for job_id in jobs]
        jobs.append(house.start("c.hang"))
    assert all(map(gone, [idle, *pids]))
    assert {await house.outcome(job_id) for job_id in jobs} == {Outcome.INTERRUPTED}


WORKER = f"""
import asyncio, sys
from tests.flow.house import RunsHouse
from taskflow.tasks.registry import Registry

async def main():
    house = RunsHouse(Registry.load(["{MODULE}"]), process=2)
    async with house.runners:
        house.start("c.appends", path=sys.argv[1])
        house.start("c.family_appends", path=sys.argv[1])
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_child_dies_with_its_worker(tmp_path: Path) -> None:
    """Even if the worker is killed without a word; and so does what the child started."""
    file = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", WORKER, str(file)], cwd=ROOT) as worker:
        until_sync(lambda: file.exists() and file.read_text().count("\n") == 3, 20)
        pids = [int(line) for line in file.read_text().splitlines()]
        assert not any(map(gone, pids))
        worker.kill()
    until_sync(lambda: all(map(gone, pids)), 5)
