"""A child serves one job after the other: nothing of one run gets into the next."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskflow.core.job import Outcome
from taskflow.tasks.registry import Registry
from tests.flow.house import RunsHouse
from tests.flow.test_run_child import MODULE, ROOT, gone
from tests.support import until


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunsHouse]:
    monkeypatch.chdir(ROOT)
    async with (house := RunsHouse(Registry.load([MODULE]), process=1)).runners:
        yield house


async def test_what_a_run_says_after_its_end_is_dropped(house: RunsHouse) -> None:
    """Lines, progress and files, by whoever kept its context; the child goes on."""
    pid = await house.result("c.keeps")
    job_id = house.start("c.uses_kept")
    assert (await house.ending(job_id)).result == f"[{pid},2,true]"
    assert [text for lines in house.lines.values() for text in lines] == []
    assert house.progress.take(job_id, 1, "w") is None


async def test_a_child_with_a_thread_left_behind_is_not_used_again(house: RunsHouse) -> None:
    """It could write to the standard error of the next run."""
    pid = await house.result("c.leaves_thread")
    job_id = house.start("c.after")
    assert (await house.ending(job_id)).result != str(pid)
    assert house.messages(job_id) == []


async def test_a_child_with_a_process_left_behind_is_not_used_again(house: RunsHouse) -> None:
    """As could this; it ends with the child."""
    pid, left = await house.result("c.leaves_process")
    assert await house.result("c.after") != pid
    await until(lambda: gone(left))


async def test_threads_of_asyncio_are_not_left_behind(house: RunsHouse) -> None:
    """A handler cannot help that they wait for more work."""
    pid = await house.result("c.to_thread")
    assert await house.result("c.to_thread") == pid
    assert await house.result("c.after") == pid


async def test_a_child_that_ends_a_run_twice_ends_no_other(house: RunsHouse) -> None:
    """The next job is not told its predecessor's ending: it is interrupted, and runs again in another child."""
    assert await house.result("c.ends_twice") == "forged"
    ending = await house.ending(job_id := house.start("c.after"))
    assert ending.outcome is Outcome.INTERRUPTED
    assert "a run that it does not have" in str(ending.error)
    assert isinstance(await house.result("c.after"), int)
    assert len(house.endings[job_id]) == 1
