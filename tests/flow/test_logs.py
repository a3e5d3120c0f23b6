"""Lines of runs on their way to the object store: kept, capped, shipped, indexed, and not lost with their process."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from taskflow.core.errors import ArtifactsUnavailable
from taskflow.flow import logs
from taskflow.flow.logs import LogShipper
from tests.flow.fakes import Followers, Index, Objects, text_of
from tests.support import until

ROOT = Path(__file__).parents[2]


class House:
    """A shipper's surroundings, which outlive it."""

    def __init__(self, spool: Path | None = None) -> None:
        self.index, self.objects, self.followers = Index(), Objects(), Followers()
        self.spool = spool

    def shipper(self) -> LogShipper:
        return LogShipper(self.index, self.objects, self.followers, namespace="ns", spool=self.spool)

    def down(self) -> None:
        self.objects.error = ArtifactsUnavailable("away")

    def up(self) -> None:
        self.objects.error = None

    async def text(self, job_id: str, epoch: int | None = None) -> bytes:
        return await text_of(self.index, self.objects, job_id, epoch)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(logs, "PERIOD", 0.1)
    monkeypatch.setattr(logs, "LIVE_PERIOD", 0.01)
    return House(tmp_path / "spool")


def files_of(house: House) -> list[Path]:
    assert house.spool is not None
    return sorted(house.spool.rglob("*.spool"))


async def test_lines_of_all_jobs_become_one_object_and_a_row_each(house: House) -> None:
    """One put for a period, then the index; nothing stays in the spool."""
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"one\n")
        shipper.append("b", 1, b"other\n")
        shipper.append("a", 1, b"two\n")
        assert shipper.pending("a")
        await until(lambda: not shipper.pending("a"))
        assert await house.text("a") == b"one\ntwo\n"
        assert await house.text("b") == b"other\n"
        assert files_of(house) == []
    assert house.objects.puts == 1
    [key] = house.objects.kept
    assert key.startswith("ns/logs/")
    assert not any(segment.truncated for segment in house.index.rows.values())


async def test_segments_of_a_run_stay_in_order(house: House) -> None:
    """Across objects and epochs."""
    async with house.shipper() as shipper:
        for epoch in (1, 2):
            for n in range(3):
                shipper.append("a", epoch, b"%d%d\n" % (epoch, n))
                await until(lambda: not shipper.pending("a"))
    assert await house.text("a") == b"10\n11\n12\n20\n21\n22\n"
    assert await house.text("a", 2) == b"20\n21\n22\n"


async def test_followers_hear_lines_before_they_are_stored(house: House) -> None:
    """Also while the object store is away."""
    house.down()
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"now\n")
        await until(lambda: house.followers.told == [("logs:a", b"now\n")])
        await until(lambda: house.objects.puts >= 2)
        shipper.append("a", 1, b"and now\n")
        await until(lambda: ("logs:a", b"and now\n") in house.followers.told)
        assert shipper.pending("a")


async def test_what_is_written_at_the_end_is_shipped_at_the_end(house: House) -> None:
    """A clean stop leaves no spool; lines after it are counted as dropped."""
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"last\n")
    assert await house.text("a") == b"last\n"
    assert files_of(house) == []
    shipper.append("a", 1, b"late\n")
    assert shipper.dropped == 1


async def test_a_full_segment_is_shipped_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after the period."""
    monkeypatch.setattr(logs, "PERIOD", 60.0)
    monkeypatch.setattr(logs, "SEGMENT_BYTES", 100)
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"x" * 100 + b"\n")
        await until(lambda: not shipper.pending("a"), 5)


async def test_a_job_that_writes_too_much_is_cut_and_says_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is marked even if nothing of it waits when the first line is dropped. Others are not touched."""
    monkeypatch.setattr(logs, "JOB_BYTES", 10)
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"12345678\n")
        await until(lambda: not shipper.pending("a"))
        for _ in range(3):
            shipper.append("a", 1, b"12345678\n")
        shipper.append("b", 1, b"fine\n")
        await until(lambda: not shipper.pending("a"))
        assert shipper.dropped == 3
    first, mark = (await house.text("a")).splitlines()
    assert first == b"12345678"
    assert "missing" in json.loads(mark)["message"]
    assert [row.truncated for row in await house.index.segments("a")] == [False, True]
    assert [row.truncated for row in await house.index.segments("b")] == [False]


async def test_all_jobs_together_are_bounded_while_the_store_is_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept comes through, and there is room again afterwards."""
    monkeypatch.setattr(logs, "ALL_BYTES", 1_000)
    monkeypatch.setattr(logs, "SEGMENT_BYTES", 200)
    house.down()
    async with house.shipper() as shipper:
        for n in range(200):
            shipper.append("a", 1, b"%09d\n" % n)
        assert shipper.dropped == 100
        house.up()
        await until(lambda: not shipper.pending("a"))
        shipper.append("b", 1, b"room\n")
    lines = (await house.text("a")).splitlines()
    assert [int(line) for line in lines[:-1]] == list(range(100))
    assert await house.text("b") == b"room\n"


async def test_an_outage_is_told_once_and_so_is_its_end(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """However often it was tried meanwhile; also where the error is one that nobody expected."""
    caplog.set_level(logging.WARNING, logger="taskflow")
    house.objects.error = RuntimeError("nobody thought of this")
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"one\n")
        await until(lambda: house.objects.puts >= 3)
        assert len(caplog.records) == 1
        house.up()
        await until(lambda: not shipper.pending("a"))
    assert ["lost" in record.message or "back" in record.message for record in caplog.records] == [True, True]
    assert await house.text("a") == b"one\n"


async def test_a_row_that_is_refused_for_good_holds_nothing_up(house: House) -> None:
    """The others of its batch are indexed, and those behind it."""
    house.index.refused = {"bad"}
    async with house.shipper() as shipper:
        for job_id in ("a", "bad", "b"):
            shipper.append(job_id, 1, job_id.encode() + b"\n")
        await until(lambda: not shipper.pending("bad"))
    assert [await house.text(job_id) for job_id in ("a", "bad", "b")] == [b"a\n", b"", b"b\n"]


async def test_a_spool_that_cannot_be_written_loses_no_lines(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """They stay in memory; the handler that writes them notices nothing."""
    async with house.shipper() as shipper:
        assert house.spool is not None
        shutil.rmtree(house.spool)
        shipper.append("a", 1, b"one\n")
        await until(lambda: not shipper.pending("a"))
    assert await house.text("a") == b"one\n"
    assert any("log spool lost" in record.message for record in caplog.records)


async def test_memory_is_no_spool(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is full and the store away it takes a little: what comes then is dropped, counted, and marked in the
    log; there is room again afterwards."""
    monkeypatch.setattr(logs, "LOOSE_BYTES", 10_000)
    house.down()
    async with house.shipper() as shipper:
        assert house.spool is not None
        shutil.rmtree(house.spool)
        for n in range(200):
            shipper.append("a", 1, b"%09d\n" % n)
        assert 100 < shipper.dropped < 190
        house.up()
        await until(lambda: not shipper.pending("a"))
        dropped = shipper.dropped
        for n in range(10):
            shipper.append("b", 1, b"%09d\n" % n)
        assert shipper.dropped == dropped
    lines = (await house.text("a")).splitlines()
    assert [int(line) for line in lines[:-1]] == list(range(200 - dropped))
    assert "missing" in json.loads(lines[-1])["message"]
    assert [row.truncated for row in await house.index.segments("a")] == [True]


async def test_without_a_spool_lines_are_kept_in_memory(house: House) -> None:
    """For processes that may lose them."""
    house.spool = None
    house.down()
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"one\n")
        await until(lambda: house.objects.puts >= 2)
        house.up()
    assert await house.text("a") == b"one\n"


SCRIPT = """
import asyncio, sys
from pathlib import Path
from taskflow.core.errors import ArtifactsUnavailable
from taskflow.flow import logs
from tests.flow.fakes import Followers, Index, Objects

async def main():
    logs.PERIOD, logs.SEGMENT_BYTES = 0.05, 2000
    objects = Objects()
    objects.error = ArtifactsUnavailable("away")
    async with logs.LogShipper(Index(), objects, Followers(), namespace="ns", spool=Path(sys.argv[1])) as shipper:
        for n in range(1000):
            shipper.append("a" if n % 2 else "b", 1, b"%d\\n" % n)
        print("written", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_lines_of_a_killed_process_are_shipped_by_the_next(house: House) -> None:
    """All of them, in order, however many batches they lay in."""
    assert house.spool is not None
    with subprocess.Popen(  # noqa: ASYNC220 - it is waited for by its output
        [sys.executable, "-c", SCRIPT, str(house.spool)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    assert len(files_of(house)) > 1
    async with house.shipper() as shipper:
        assert shipper.pending("a")
        await until(lambda: not shipper.pending("a") and not shipper.pending("b"))
    assert [int(line) for line in (await house.text("a")).split()] == list(range(1, 1_000, 2))
    assert [int(line) for line in (await house.text("b")).split()] == list(range(0, 1_000, 2))
    assert files_of(house) == []


async def test_a_kill_between_index_and_clean_up_doubles_no_line(house: House, tmp_path: Path) -> None:
    """The next process writes the same object and the same rows again."""
    assert house.spool is not None
    house.down()
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"one\n")
        shipper.append("b", 2, b"two\n")
        await until(lambda: house.objects.puts >= 1)
        await until(lambda: files_of(house))
        shutil.copytree(house.spool, tmp_path / "copy")
        house.up()
    rows, kept = dict(house.index.rows), dict(house.objects.kept)
    assert len(rows) == 2
    shutil.copytree(tmp_path / "copy", house.spool, dirs_exist_ok=True)
    async with house.shipper() as shipper:
        await until(lambda: not shipper.pending("a"))
    assert (house.index.rows, house.objects.kept) == (rows, kept)
    assert house.objects.puts >= 3


async def test_new_lines_come_after_those_of_a_killed_process(house: House) -> None:
    """Even if its clock was ahead."""
    assert house.spool is not None
    (house.spool / "dead").mkdir(parents=True)
    (house.spool / "dead" / f"{9_000_000_000_000:015d}-x.spool").write_text('["a",1,"old\\n",false]\n')
    async with house.shipper() as shipper:
        shipper.append("a", 1, b"new\n")
        await until(lambda: not shipper.pending("a"))
    assert await house.text("a") == b"old\nnew\n"


async def test_what_a_kill_cut_short_is_left_out(house: House) -> None:
    """A line that is no whole record, and a file of nothing."""
    assert house.spool is not None
    (house.spool / "dead").mkdir(parents=True)
    (house.spool / "dead" / "000000000000001-x.spool").write_bytes(b'["a",1,"whole\\n",false]\n["a",1,"cu')
    (house.spool / "dead" / "000000000000002-y.spool").write_bytes(b"")
    (house.spool / "dead" / "000000000000003-z.spool").write_bytes(b'{"not": "a record"}\n[1]\nnull\n')
    async with house.shipper() as shipper:
        await until(lambda: not files_of(house))
        assert not shipper.pending("a")
    assert await house.text("a") == b"whole\n"


async def test_lines_may_come_from_many_threads(house: House) -> None:
    """Each of them once, in the order of its thread."""
    async with house.shipper() as shipper:

        def write(name: str) -> None:
            for n in range(500):
                shipper.append(name, 1, b"%d\n" % n)

        threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        await until(lambda: not any(thread.is_alive() for thread in threads))
    for n in range(4):
        assert [int(line) for line in (await house.text(f"t{n}")).split()] == list(range(500))
    assert files_of(house) == []
