"""Locks of the embedded mode: prove that no other process uses a database, and so that the last one is dead."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from taskflow.core.errors import TaskFlowError

SQLITE: Final = "sqlite:///"


PROC: Final = Path("/proc")
"""Where Linux tells which process has which file."""


class InUse(TaskFlowError):
    """Another process holds the lock; `orphaned` where it is not the one that took it, which is gone."""

    def __init__(self, path: Path, owner: str, holders: Sequence[int]) -> None:
        known = owner.isdecimal() and int(owner) not in (os.getpid(), *holders)
        # A number that is there may be somebody else's by now: whoever is seen to hold it counts first.
        self.orphaned = known and PROC.exists() and (bool(holders) or not (PROC / owner).exists())
        whom = _left(owner, holders) if self.orphaned else f"the embedded mode is in use by process {owner}: stop it"
        super().__init__(f"{path} is held: {whom}, or use another --data-dir")


@contextmanager
def embedded(store_url: str, data_dir: str) -> Iterator[None]:
    """Hold what the embedded mode needs alone: its database file and its data directory. Other stores need no lock.

    Raises:
        InUse: another process holds one of them.
    """
    with ExitStack() as stack:
        if store_url.startswith(SQLITE):
            stack.enter_context(held(Path(store_url.removeprefix(SQLITE) + ".lock")))
            stack.enter_context(held(Path(data_dir) / "data.lock"))
        yield


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file; its directory is made if missing, readable by its owner only.

    Raises:
        InUse: another process holds it; names its pid.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            raise InUse(path, owner, _holders(descriptor)) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _left(owner: str, holders: Sequence[int]) -> str:
    gone = f"process {owner}, which took it, is gone"
    if not holders:
        return f"{gone} or cannot be seen from here, and something that it started still holds it: stop that"
    return f"{gone}, and what it started still holds it, process {', '.join(map(str, holders))}: stop that"


def _holders(descriptor: int) -> list[int]:
    """Other processes that have the file open, as far as this one may know. A copy of a process has its locks, too."""
    mine = os.fstat(descriptor)
    found = []
    for directory in PROC.glob("[0-9]*/fd"):
        if directory.parent.name == str(os.getpid()):
            continue
        # Somebody else's, or ended meanwhile.
        with suppress(OSError), os.scandir(directory) as entries:
            if any(_same(entry, mine) for entry in entries):
                found.append(int(directory.parent.name))
    return sorted(found)


def _same(entry: os.DirEntry[str], mine: os.stat_result) -> bool:
    try:
        return os.path.samestat(entry.stat(), mine)
    except OSError:
        return False
