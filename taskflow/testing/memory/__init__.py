"""A whole store in plain dictionaries: a fake for tests, and the shortest thing that keeps the contract of a store.

Read it as the specification: `tables` says what is remembered, the other files what each verb changes. A method is one
step without an `await` inside, so that nothing can come between; hence there is no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from taskflow.testing.memory.catalogue import CataloguePart
from taskflow.testing.memory.claims import ClaimsPart
from taskflow.testing.memory.files import FilesPart
from taskflow.testing.memory.jobs import JobsPart
from taskflow.testing.memory.tables import Tables
from taskflow.testing.memory.upkeep import UpkeepPart
from taskflow.testing.memory.workers import WorkersPart


def _now() -> datetime:
    return datetime.now(UTC)


class MemoryStore(JobsPart, ClaimsPart, WorkersPart, CataloguePart, UpkeepPart, FilesPart):
    """Everything in this object, and gone with it.

    Args:
        clock: an aware instant, UTC; tests move it.
    """

    def __init__(self, clock: Callable[[], datetime] = _now) -> None:
        self._tables = Tables(clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nothing to close."""

    async def ping(self) -> None:
        """Always answers."""

    async def revision(self) -> str | None:
        """Never an old one."""
        return "memory"


__all__ = ["MemoryStore"]
