"""The store in dictionaries keeps the store's contract, and its clock is the test's."""

from __future__ import annotations

import pytest

from taskflow.ports.store import StateStore
from taskflow.testing.memory import MemoryStore
from taskflow.testing.store import StoreConformance
from taskflow.testing.store_facts import T0, at, job, shown


class TestMemory(StoreConformance):
    """The suite, in memory."""

    @pytest.fixture
    async def store(self) -> StateStore:
        """The store under test."""
        return MemoryStore()


async def test_time_is_what_the_clock_says() -> None:
    """Wherever no instant is given."""
    now = T0
    store = MemoryStore(lambda: now)
    new = job(delay=5)
    await store.insert([new])
    now = at(5)
    assert [ticket.queued_at for ticket in (await store.promote()).tickets] == [at(5)]
    assert (await shown(store, new.id)).created_at == T0
