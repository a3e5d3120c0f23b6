"""What every cache must do. Subclass `CacheSuite` in a test and give it a `cache` fixture."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.core.ids import new_id
from taskflow.ports.cache import Cache
from taskflow.testing.facts import until


class CacheSuite:
    """The contract of `taskflow.ports.cache.Cache`."""

    @pytest.fixture
    def cache(self) -> Any:
        """The cache under test, opened."""
        raise NotImplementedError("override this fixture, and yield an opened cache")

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody else uses."""
        return f"test:{new_id()}"

    async def test_a_value_is_kept_as_it_is(self, cache: Cache, key: str) -> None:
        """Whatever its bytes."""
        for value in (b"", b"\0\xff\r\n", bytes(range(256)) * 1_000):
            await cache.put(key, value, 60)
            assert await cache.get(key) == value

    async def test_a_missing_key_is_none(self, cache: Cache, key: str) -> None:
        """And no error."""
        assert await cache.get(key) is None

    async def test_delete_forgets(self, cache: Cache, key: str) -> None:
        """Several at once; keys that are not there are no error."""
        await cache.put(key, b"1", 60)
        await cache.put(f"{key}:other", b"2", 60)
        await cache.delete(key, f"{key}:other", f"{key}:missing")
        await cache.delete()
        assert await cache.get(key) is None
        assert await cache.get(f"{key}:other") is None

    async def test_a_value_ends_with_its_time(self, cache: Cache, key: str) -> None:
        """And a new put gives it a new one."""
        await cache.put(key, b"old", 0.2)
        assert await cache.get(key) == b"old"

        async def gone() -> bool:
            return await cache.get(key) is None

        await until(gone)
        await cache.put(key, b"short", 0.2)
        await cache.put(key, b"new", 60)
        assert await cache.get(key) == b"new"

    async def test_it_answers(self, cache: Cache) -> None:
        """A ping raises nothing."""
        await cache.ping()
