"""Log lines while S3 is away: they wait on the disk, and come in order when it is back."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.adapters.obstore import S3Artifacts
from taskflow.flow import logs
from taskflow.flow.logs import LogShipper
from taskflow.testing.facts import until
from tests.flow.fakes import Followers, Index
from tests.throwaway import ThrowawayWeed

pytestmark = pytest.mark.adapter("s3")


def files(directory: Path) -> list[Path]:
    return list(directory.rglob("*.spool"))


async def test_lines_of_an_outage_are_uploaded_at_its_end(
    tmp_path: Path, own_weed: ThrowawayWeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that fit, in order, and what does not fit is marked."""
    monkeypatch.setattr(logs, "PERIOD", 0.05)
    monkeypatch.setattr(logs, "SEGMENT_BYTES", 1_000)
    monkeypatch.setattr(logs, "JOB_BYTES", 5_000)
    index = Index()
    url, keys = own_weed.url, {"access_key": own_weed.access_key, "secret_key": own_weed.secret_key}
    async with (
        S3Artifacts.from_url(url, **keys) as objects,
        LogShipper(index, objects, Followers(), namespace="ns", spool=tmp_path / "spool") as shipper,
    ):
        shipper.append("a", 1, b"before\n")
        await until(lambda: not shipper.pending("a"))
        own_weed.stop()
        for n in range(100):
            shipper.append("a", 1, b"%098d\n" % n)
        await until(lambda: shipper._outage.failures)
        assert shipper.dropped == 50
        assert len(files(tmp_path)) >= 5
        await own_weed.start_beside()
        await until(lambda: not shipper.pending("a"), within=30)
        segments = await index.segments("a")
        text = b"".join([await objects.read(s.object, s.offset, s.length) for s in segments])
    first, *lines, mark = text.splitlines()
    assert first == b"before"
    assert [int(line) for line in lines] == list(range(50))
    assert b"missing" in mark
    assert [s.truncated for s in segments][-1]
    assert files(tmp_path) == []
