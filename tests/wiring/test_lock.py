"""Whoever adopts the runs of the dead has proof that they are dead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow.adapters.sql import schema
from taskflow.flow.doctor import Severity
from taskflow.wiring import lock
from taskflow.wiring.doctor import examine
from taskflow.wiring.lock import InUse, embedded
from taskflow.wiring.settings import load

FORKED = """
import os, sys
from taskflow.wiring.lock import embedded
held = embedded(*sys.argv[1:])
held.__enter__()
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
    os._exit(0)
os.close(1)
sys.stdin.read()
"""


@pytest.mark.parametrize(("store", "data"), [("same.db", "other"), ("other.db", "same")])
def test_neither_the_database_nor_the_data_directory_is_shared(tmp_path: Path, store: str, data: str) -> None:
    """The refusal names the file and the process; the lock ends with its holder."""
    first = (f"sqlite:///{tmp_path}/same.db", str(tmp_path / "same"))
    second = (f"sqlite:///{tmp_path}/{store}", str(tmp_path / data))
    with embedded(*first), pytest.raises(InUse, match="in use by process"), embedded(*second):
        pass
    with embedded(*second):
        pass


def test_other_stores_are_shared(tmp_path: Path) -> None:
    """PostgreSQL needs no lock of ours."""
    with embedded("postgresql://x/y", str(tmp_path)), embedded("postgresql://x/y", str(tmp_path)):
        pass


@pytest.fixture
def left(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A process that took the locks and is gone, and the copy that it left, which ends with the test."""
    words = [sys.executable, "-c", FORKED, f"sqlite:///{tmp_path}/taskflow.db", str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        owner, copy = map(int, process.stdout.readline().split())
        assert process.wait(10) == 0
        yield owner, copy


@pytest.mark.skipif(not lock.PROC.exists(), reason="nobody tells who has a file")
def test_a_copy_that_a_process_left_is_named(
    tmp_path: Path, left: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of the process that is gone, by a start and by the doctor; also where the copy cannot be seen."""
    owner, copy = left
    url = f"sqlite:///{tmp_path}/taskflow.db"
    with (
        pytest.raises(InUse, match=f"process {owner}, which took it, is gone, and .* process {copy}:"),
        embedded(url, str(tmp_path)),
    ):
        pass
    schema.upgrade(url)
    found = examine(load("dev", {"data_dir": str(tmp_path), "consumer.lease": 1}, {}, None)).findings
    assert [(one.check, str(copy) in one.what) for one in found if one.severity is Severity.PROBLEM] == [("lock", True)]
    monkeypatch.setattr(lock, "_holders", lambda _: [])
    with pytest.raises(InUse, match="cannot be seen from here"), embedded(url, str(tmp_path)):
        pass
    # Its number is somebody else's by now.
    (tmp_path / "taskflow.db.lock").write_text(f"{os.getppid()}\n")
    monkeypatch.undo()
    with pytest.raises(InUse, match=f"process {copy}:"), embedded(url, str(tmp_path)):
        pass
