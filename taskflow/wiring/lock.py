"""Locks of the embedded mode: prove that no other process uses a database, and so that the last one is dead."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from taskflow.core.errors import TaskFlowError

SQLITE: Final = "sqlite:///"


class InUse(TaskFlowError):
    """Another process holds the lock."""


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
            raise InUse(
                f"{path} is held: the embedded mode is in use by process {owner}: stop it, or use another --data-dir"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
