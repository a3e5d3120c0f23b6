"""What every object store must do. Subclass `ArtifactsSuite` in a test and give it an `artifacts` fixture."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from taskflow.core.errors import NotFound
from taskflow.core.ids import new_id
from taskflow.ports.artifacts import Artifacts, Listing, ObjectInfo


class ArtifactsSuite:
    """The contract of `taskflow.ports.artifacts.Artifacts`."""

    @pytest.fixture
    def artifacts(self) -> Any:
        """The object store under test, opened."""
        raise NotImplementedError("override this fixture, and yield an opened object store")

    @pytest.fixture
    def key(self) -> str:
        """A key that nobody else uses."""
        return f"test/{new_id()}/object.bin"

    @pytest.mark.parametrize("size", [0, 1, 5_000_000])
    async def test_an_object_is_kept_as_it_is(self, artifacts: Artifacts, key: str, size: int) -> None:
        """In one piece, in chunks and by its size."""
        data = bytes(index * 7 % 251 for index in range(min(size, 5_000))) * max(1, size // 5_000)
        assert await artifacts.put(key, data) == ObjectInfo(key, len(data))
        assert await artifacts.read(key) == data
        assert b"".join([chunk async for chunk in artifacts.open(key)]) == data
        assert await artifacts.stat(key) == ObjectInfo(key, len(data))

    async def test_a_put_replaces(self, artifacts: Artifacts, key: str) -> None:
        """Also by something shorter."""
        await artifacts.put(key, b"long before")
        await artifacts.put(key, b"after")
        assert await artifacts.read(key) == b"after"

    async def test_a_reader_sees_whole_objects(self, artifacts: Artifacts, key: str) -> None:
        """Either the one before or the one after, while many write."""
        versions = [bytes([version]) * 300_000 for version in range(8)]
        await artifacts.put(key, versions[0])
        writing = asyncio.gather(*(artifacts.put(key, version) for version in versions))
        while not writing.done():
            assert await artifacts.read(key) in versions
        await writing
        assert await artifacts.read(key) in versions

    async def test_ranges(self, artifacts: Artifacts, key: str) -> None:
        """What there is of them."""
        await artifacts.put(key, b"0123456789")
        assert await artifacts.read(key, 2, 3) == b"234"
        assert await artifacts.read(key, 7) == b"789"
        assert await artifacts.read(key, 8, 100) == b"89"
        assert await artifacts.read(key, 3, 0) == b""
        assert await artifacts.read(key, 10, 5) == b""
        assert await artifacts.read(key, 50) == b""

    async def test_a_missing_object_is_said_to_be_missing(self, artifacts: Artifacts, key: str) -> None:
        """By every way to read it."""
        assert await artifacts.stat(key) is None
        with pytest.raises(NotFound, match=key):
            await artifacts.read(key)
        with pytest.raises(NotFound, match=key):
            await artifacts.read(key, 1, 2)
        with pytest.raises(NotFound, match=key):
            await anext(aiter(artifacts.open(key)))

    async def test_delete(self, artifacts: Artifacts, key: str) -> None:
        """Several at once; missing ones are no error."""
        await artifacts.put(key, b"1")
        await artifacts.put(f"{key}.other", b"2")
        await artifacts.delete(key, f"{key}.missing", f"{key}.other")
        await artifacts.delete(key)
        await artifacts.delete()
        assert await artifacts.stat(key) is None
        assert await artifacts.stat(f"{key}.other") is None

    async def test_a_url_reads_one_object_or_there_is_none(self, artifacts: Artifacts, key: str) -> None:
        """A store that cannot sign says so."""
        await artifacts.put(key, b"1")
        url = await artifacts.sign(key, 60)
        assert url is None or key.rpartition("/")[2] in url

    async def test_what_lies_below_a_prefix_is_listed(self, artifacts: Artifacts) -> None:
        """All of it and nothing beside; a store that cannot list says so by not being a `Listing`."""
        if not isinstance(artifacts, Listing):
            pytest.skip("this store does not list")
        place = f"test/{new_id()}"
        assert [found async for found in artifacts.listed(f"{place}/")] == []
        keys = [f"{place}/{part}/{number}" for part in ("a", "b/c", "d/Artifacts:1.x_-y") for number in range(3)]
        await asyncio.gather(*(artifacts.put(key, b"12") for key in (*keys, f"{place}-beside/1")))
        found = [found async for found in artifacts.listed(f"{place}/")]
        assert sorted(one.key for one in found) == keys
        assert {one.size for one in found} == {2}
        assert all(abs((datetime.now(UTC) - one.modified).total_seconds()) < 600 for one in found)
        alone = await artifacts.stat(found[0].key)
        assert alone is not None
        assert alone.modified is not None, "whoever lists tells of one object, too, when it was stored"
        assert abs((alone.modified - found[0].modified).total_seconds()) <= 1

    async def test_it_answers(self, artifacts: Artifacts) -> None:
        """A ping raises nothing."""
        await artifacts.ping()
