"""Where the spools of a host lie: each process has a directory of its own, and what a dead one left goes to a living one.

A process holds a lock in its directory as long as it lives, however it ends; a directory whose lock is free is nobody's.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskflow.core.ids import new_id
from taskflow.flow.spool import SUFFIX, Batch, found

LOCK: Final = "lock"
UNBORN: Final = "."
"""Begins the name of a directory that has no lock yet, which nobody may take for a dead one's."""

log = logging.getLogger("taskflow")


class Room:
    """The directory of this process.

    Args:
        root: what the processes of a host share; made if missing, readable by its owner only.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        name = new_id()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        unborn = root / f"{UNBORN}{name}"
        unborn.mkdir(mode=0o700)
        held = _lock(unborn)
        assert held is not None
        self._held = held
        self.path = unborn.rename(root / name)

    def adopt(self) -> list[Batch]:
        """Move here what dead processes left; the oldest comes first."""
        moved: list[Path] = []
        for directory in self._others():
            try:
                held = _lock(directory)
                if held is None:
                    continue
                try:
                    for path in directory.glob(f"*{SUFFIX}"):
                        moved.append(path.rename(self.path / path.name))  # noqa: PERF401 - those before a failure too
                    (directory / LOCK).unlink(missing_ok=True)
                    directory.rmdir()
                finally:
                    os.close(held)
            except OSError as error:
                # Somebody else may have adopted it first.
                log.debug("the spool %s was not adopted: %s", directory, error)
        return found(moved)

    def elsewhere(self) -> int:
        """Bytes that the other spools of the host hold."""
        total = 0
        for directory in self._others():
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        total += entry.stat().st_size
            except OSError:
                continue  # shipped, or adopted, just now
        return total

    def close(self) -> None:
        """Give it up: it goes, or, with what is in it, to the next process that looks."""
        try:
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()
        except OSError:
            pass
        os.close(self._held)

    def _others(self) -> list[Path]:
        try:
            with os.scandir(self._root) as entries:
                rooms = [Path(entry) for entry in entries if entry.is_dir() and not entry.name.startswith(UNBORN)]
        except OSError:
            return []
        return [directory for directory in rooms if directory != self.path]


@dataclass(frozen=True, slots=True)
class Found:
    """A directory with lines in it: bytes, seconds since the oldest was begun, whether a living process has it."""

    name: str
    size: int
    age: float
    owned: bool


def rooms(root: Path) -> list[Found]:
    """What waits on this host. For looking: nothing is made or moved."""
    found = []
    for directory in sorted(root.glob(f"[!{UNBORN}]*")):
        try:
            files = [path.stat() for path in directory.glob(f"*{SUFFIX}")]
            if files:
                age = time.time() - min(file.st_mtime for file in files)
                found.append(Found(directory.name, sum(file.st_size for file in files), age, _owned(directory)))
        except OSError:
            continue  # shipped, or adopted, just now
    return found


def _owned(directory: Path) -> bool:
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who look do not take each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(directory: Path) -> int | None:
    """The descriptor that holds a directory's lock, or `None` where somebody else does."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
