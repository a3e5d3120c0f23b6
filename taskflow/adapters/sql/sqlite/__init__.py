"""The store on SQLite. Statements stand beside the method that runs them, one a method where they can."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taskflow.adapters.sql.sqlite.audit import AuditPart
from taskflow.adapters.sql.sqlite.claims import ClaimsPart
from taskflow.adapters.sql.sqlite.database import Database
from taskflow.adapters.sql.sqlite.files import FilesPart
from taskflow.adapters.sql.sqlite.submit import JobsPart
from taskflow.adapters.sql.sqlite.upkeep import UpkeepPart
from taskflow.adapters.sql.sqlite.workers import CataloguePart, WorkersPart

PREFIX = "sqlite:///"
MEMORY = ":memory:"


class SqliteStore(JobsPart, ClaimsPart, WorkersPart, CataloguePart, UpkeepPart, FilesPart, AuditPart):
    """Everything in one SQLite file, for one process at a time.

    Args:
        path: the file, with its schema installed.
        clock: microseconds since 1970; for tests.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], int] | None = None) -> None:
        self._db = Database(Path(path), clock)

    @classmethod
    def from_url(cls, url: str, **_: Any) -> Self:
        """The store of `sqlite:///relative.db` or `sqlite:////absolute.db`."""
        if not url.startswith(PREFIX) or len(url) == len(PREFIX):
            raise ValueError(f"{url!r} is no SQLite URL: use sqlite:///relative.db or sqlite:////absolute.db")
        if url.removeprefix(PREFIX) == MEMORY:
            raise ValueError(
                f"{url!r} is a database in memory, which no job survives: name a file, as sqlite:///jobs.db"
            )
        return cls(url.removeprefix(PREFIX))

    async def __aenter__(self) -> Self:
        await self._db.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._db.close()

    async def ping(self) -> None:
        """Prove that the file can be written: a transaction that writes nothing still takes the lock."""
        await self._db.write(lambda connection: connection.execute("SELECT 1").fetchone())

    async def revision(self) -> str | None:
        """The schema revision that is installed."""
        return await self._db.read(_revision)


def _revision(connection: sqlite3.Connection) -> str | None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


__all__ = ["SqliteStore"]
