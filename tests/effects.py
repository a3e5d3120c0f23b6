"""What handlers do outside TaskFlow's tables, where a test can look at it: a line of a file each, `key epoch what when process`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Effect(NamedTuple):
    """One of them.

    Attributes:
        when: on whichever clock the handler looked at.
        by: the process that it ran in.
    """

    key: str
    epoch: int
    what: str
    when: float
    by: int = 0


def append(path: str, line: str) -> None:
    """Add a line in one write: processes that write at once, or die at once, spoil no line of each other."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def record(path: str, effect: Effect) -> None:
    """Write one down."""
    append(path, f"{effect.key} {effect.epoch} {effect.what} {effect.when:.6f} {os.getpid()}")


def recorded(path: Path) -> list[Effect]:
    """All that were written down."""
    if not path.exists():
        return []
    parts = (line.split() for line in path.read_text().splitlines())
    return [Effect(key, int(epoch), what, float(when), int(by)) for key, epoch, what, when, by in parts]
