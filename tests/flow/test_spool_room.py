"""Spools of one host: a living process's is its own, and a dead one's is adopted, by one process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from taskflow.core.errors import ArtifactsUnavailable
from taskflow.flow import logs
from taskflow.flow.logs import LogShipper
from taskflow.flow.spool_room import Room
from tests.flow.fakes import Followers, Index, Objects, text_of
from tests.support import until

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PERIOD", 0.02)
    monkeypatch.setattr(logs, "LOOK_ROUND", 0.05)


class Host:
    """What its processes share."""

    def __init__(self, spool: Path) -> None:
        self.index, self.objects, self.spool = Index(), Objects(), spool

    def shipper(self) -> LogShipper:
        return LogShipper(self.index, self.objects, Followers(), namespace="ns", spool=self.spool)

    async def text(self, job_id: str) -> bytes:
        return await text_of(self.index, self.objects, job_id)

    def files(self) -> list[Path]:
        return sorted(self.spool.rglob("*.spool"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "spool")


def leave(host: Host, name: str, *lines: str, number: int = 1) -> None:
    """What a process that died left: its lock is free."""
    directory = host.spool / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "lock").touch()
    records = "".join(f'["{name}",1,"{line}\\n",false]\n' for line in lines)
    (directory / f"{number:015d}-{name}{number}.spool").write_text(records)


async def test_processes_of_one_host_keep_their_lines_apart(host: Host) -> None:
    """None takes what another one still writes, however often it looks; all are shipped once the store is back."""
    host.objects.error = ArtifactsUnavailable("away")
    async with host.shipper() as one, host.shipper() as other:
        one.append("a", 1, b"1\n")
        other.append("b", 1, b"1\n")
        await until(lambda: host.objects.puts >= 6)
        one.append("a", 1, b"2\n")
        assert len({file.parent for file in host.files()}) == 2
        assert not one.pending("b")
        assert not other.pending("a")
        host.objects.error = None
        await until(lambda: not one.pending("a") and not other.pending("b"))
    assert await host.text("a") == b"1\n2\n"
    assert await host.text("b") == b"1\n"
    assert list(host.spool.iterdir()) == []


async def test_a_living_process_ships_what_one_that_died_meanwhile_left(host: Host) -> None:
    """Nobody needs to be started anew for that."""
    async with host.shipper() as shipper:
        shipper.append("a", 1, b"1\n")
        await until(lambda: not shipper.pending("a"))
        leave(host, "dead", "one", "two")
        leave(host, "dead", "three", number=2)
        shipper.append("a", 1, b"2\n")
        await until(lambda: not host.files() and not shipper.pending("dead"))
    assert await host.text("dead") == b"one\ntwo\nthree\n"
    assert not (host.spool / "dead").exists()


async def test_a_dead_process_has_one_heir(host: Host) -> None:
    """Though many look at once: no line is there twice."""
    for n in range(20):
        leave(host, f"dead{n}", "one", "two")
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(host.shipper()) for _ in range(5)))
        await until(lambda: not host.files())
    for n in range(20):
        assert await host.text(f"dead{n}") == b"one\ntwo\n"
    assert host.objects.puts == 20
    assert list(host.spool.iterdir()) == []


async def test_the_bound_is_that_of_the_host(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others keep leaves less room here."""
    monkeypatch.setattr(logs, "ALL_BYTES", 10_000)
    host.objects.error = ArtifactsUnavailable("away")
    async with host.shipper() as one, host.shipper() as other:
        one.append("a", 1, b"x" * 9_000 + b"\n")
        other.append("b", 1, b".\n")  # it looks at the others when it ships
        await until(lambda: other._elsewhere > 9_000)
        before = other.dropped
        other.append("b", 1, b"x" * 2_000 + b"\n")
        assert other.dropped == before + 1
        host.objects.error = None
        await until(lambda: not one.pending("a") and not other.pending("b"))


async def test_what_is_left_at_a_stop_is_the_next_ones(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean stop while the store is away keeps the lines, and frees them."""
    host.objects.error = ArtifactsUnavailable("away")
    async with host.shipper() as shipper:
        shipper.append("a", 1, b"1\n")
    assert len(host.files()) == 1
    host.objects.error = None
    async with host.shipper() as shipper:
        await until(lambda: not shipper.pending("a"))
    assert await host.text("a") == b"1\n"


async def test_a_spool_that_cannot_be_made_does_not_stop_the_start(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines are kept in memory, and the log says so."""
    host.spool.parent.mkdir(exist_ok=True)
    host.spool.write_text("a file")
    async with host.shipper() as shipper:
        shipper.append("a", 1, b"1\n")
        await until(lambda: not shipper.pending("a"))
    assert await host.text("a") == b"1\n"
    assert [record for record in caplog.records if "in memory only" in record.getMessage()]


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A handler's process may outlive the one that started it."""
    room = Room(tmp_path)
    (room.path / "000000000000001-x.spool").write_text('["a",1,"one\\n",false]\n')
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        room.close()
        other = Room(tmp_path)
        assert [batch.jobs for batch in other.adopt()] == [{"a"}]
        child.communicate(b"\n")
    other.close()
