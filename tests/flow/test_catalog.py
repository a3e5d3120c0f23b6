"""The catalogue as the API remembers it."""

from __future__ import annotations

import asyncio
import json

import anyio
import pytest

from taskflow.core.errors import Invalid, StoreUnavailable
from taskflow.core.job import RunsIn
from taskflow.flow import catalog
from taskflow.flow.catalog import FRESH, Catalog
from taskflow.ports.clock import SystemClock
from taskflow.ports.store import TaskInfo
from taskflow.tasks.jsonread import document

TASK = TaskInfo(name="t", queue="default", runs_in=RunsIn.ASYNC, schema="{}", timeout=60.0, max_attempts=5)


class Shelf:
    """Knows one task; answers when `gate` is open."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.looks = 0

    async def tasks(self) -> list[TaskInfo]:
        self.looks += 1
        await self.gate.wait()
        if self.error:
            raise self.error
        return [TASK]

    async def queue_names(self) -> dict[str, bool]:
        await self.gate.wait()
        return {"default": False}


@pytest.fixture
def shelf() -> Shelf:
    """One."""
    return Shelf()


@pytest.fixture
def now() -> list[float]:
    """A clock."""
    return [0.0]


@pytest.fixture
def known(shelf: Shelf, now: list[float]) -> Catalog:
    """What is remembered of it."""
    return Catalog(shelf, SystemClock(), lambda: now[0])  # type: ignore[arg-type]


async def test_a_store_that_does_not_answer_is_told_to_all_who_wait_at_once(
    known: Catalog, shelf: Shelf, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share one look and its end: one after another, the last would wait as often as there are others."""
    monkeypatch.setattr(catalog, "PATIENCE", 0.1)
    await known.snapshot()
    now[0] += FRESH + 1
    shelf.gate = anyio.Event()
    with anyio.fail_after(5):
        found = await asyncio.gather(*(known.snapshot() for _ in range(100)), return_exceptions=True)
    assert all(isinstance(one, StoreUnavailable) for one in found)
    assert shelf.looks == 2
    shelf.gate.set()
    assert (await known.snapshot()).tasks == {"t": TASK}


async def test_who_leaves_does_not_take_a_look_from_others(known: Catalog, shelf: Shelf) -> None:
    """Their answer comes, or the reason why none does."""
    shelf.gate = anyio.Event()
    leaving, staying = (asyncio.create_task(known.snapshot()) for _ in range(2))
    await anyio.lowlevel.checkpoint()
    leaving.cancel()
    shelf.error = StoreUnavailable("gone")
    shelf.gate.set()
    with pytest.raises(StoreUnavailable, match="gone"):
        await staying
    assert leaving.cancelled()
    shelf.error = None
    assert (await known.snapshot()).queues == {"default"}


async def test_what_was_read_before_a_change_is_not_remembered(known: Catalog, shelf: Shelf) -> None:
    """It may lack what the change brought."""
    shelf.gate = anyio.Event()
    asked = asyncio.create_task(known.snapshot())
    await anyio.lowlevel.checkpoint()
    known.forget()
    shelf.gate.set()
    await asked
    await known.snapshot()
    assert shelf.looks == 2


async def test_others_have_a_turn_after_each_job_that_is_refused(known: Catalog) -> None:
    """To find out all that is wrong takes as long as to admit many."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    await known.snapshot()
    counting = asyncio.create_task(count())
    bad = document(json.dumps({"task": "t", "payload": [], "odd": 1}).encode())
    refused = await known.admit_many((bad, None) for _ in range(10))
    counting.cancel()
    assert all(isinstance(each, Invalid) for each in refused)
    assert turns >= 5
