"""Objects in a directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskflow.adapters.obstore import LocalArtifacts
from taskflow.core.errors import ArtifactsUnavailable
from taskflow.ports.artifacts import Artifacts
from taskflow.testing.artifacts import ArtifactsSuite

pytestmark = pytest.mark.adapter("file")


class TestLocalArtifacts(ArtifactsSuite):
    """The contract."""

    @pytest.fixture
    async def artifacts(self, tmp_path: Path) -> AsyncIterator[Artifacts]:
        """An opened one."""
        async with LocalArtifacts.from_url(f"file://{tmp_path}/some/where") as opened:
            yield opened


def test_nothing_happens_before_it_is_opened(tmp_path: Path) -> None:
    """A constructor does no I/O."""
    LocalArtifacts.from_url(f"file://{tmp_path}/objects")
    assert list(tmp_path.iterdir()) == []


async def test_the_directory_is_its_owners(tmp_path: Path) -> None:
    """Logs and files may hold secrets."""
    async with LocalArtifacts(tmp_path / "objects"):
        assert (tmp_path / "objects").stat().st_mode & 0o077 == 0


async def test_blanks_in_the_directory_survive(tmp_path: Path) -> None:
    """A URL has them percent-encoded."""
    async with LocalArtifacts.from_url(f"file://{tmp_path}/a%20b") as opened:
        await opened.put("k", b"1")
    assert (tmp_path / "a b" / "k").read_bytes() == b"1"


@pytest.mark.parametrize("url", ["file://host/directory", "file://.taskflow/objects", "file:///", "s3://bucket"])
def test_what_names_no_directory_is_refused(url: str) -> None:
    """Two slashes name a host: nothing is guessed."""
    with pytest.raises(ValueError, match="file:///absolute"):
        LocalArtifacts.from_url(url)


async def test_a_directory_that_cannot_be_made_is_an_outage(tmp_path: Path) -> None:
    """With its name and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactsUnavailable, match="file/objects cannot be made: Not a directory"):
        async with LocalArtifacts(tmp_path / "file" / "objects"):
            pass


async def test_what_the_disk_refuses_is_an_outage(tmp_path: Path) -> None:
    """Not an error of the driver."""
    async with LocalArtifacts(tmp_path) as opened:
        await opened.put("a", b"1")
        with pytest.raises(ArtifactsUnavailable, match="object a/b was not stored"):
            await opened.put("a/b", b"1")


async def test_a_closed_store_is_an_outage(tmp_path: Path) -> None:
    """Also for what comes late."""
    async with LocalArtifacts(tmp_path) as opened:
        pass
    with pytest.raises(ArtifactsUnavailable, match="not open"):
        await opened.put("a", b"1")


async def test_a_ping_leaves_nothing(tmp_path: Path) -> None:
    """It proves that the directory can be written."""
    async with LocalArtifacts(tmp_path) as opened:
        await opened.ping()
        assert await opened.stat(".ping") is None
