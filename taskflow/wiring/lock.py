"""The data directory's lock: proves that no other process uses it, and so that the last one is dead."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskflow.core.errors import TaskFlowError


class InUse(TaskFlowError):
    """Another process holds the data directory."""


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the lock of a data directory; made if missing, readable by its owner only.

    Raises:
        InUse: another process holds it; names its pid.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            raise InUse(
                f"the data directory {directory} is in use by process {owner}: stop it, or use another --data-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
