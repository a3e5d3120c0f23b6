"""A SQLite file: one writer, a few readers, and the clock that its statements use."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from taskflow.adapters.sql.sqlite.writer import Writer, unavailable
from taskflow.adapters.sql.tables import to_micros
from taskflow.core.errors import StoreUnavailable

T = TypeVar("T")
READERS: Final = 4
OLDEST_SQLITE: Final = (3, 38)


def array(values: Iterable[Any]) -> str:
    """Values as a JSON array, for `json_each`."""
    return orjson.dumps(list(values)).decode()


class Database:
    """The file and who may touch it.

    Args:
        path: the file.
        clock: microseconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], int] | None = None) -> None:
        self.path = path
        self._clock = clock or (lambda: time.time_ns() // 1_000)
        self._writer = Writer(self._connect)
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self.write = self._writer.write

    async def open(self) -> None:
        """Open the file for writing and reading.

        Raises:
            StoreUnavailable: it cannot be opened, or this Python's SQLite is too old.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old: use a Python that has 3.38 or newer")
        self._readers = ThreadPoolExecutor(READERS, "taskflow-reader")
        await self._writer.open()

    async def close(self) -> None:
        """Write what waits and close."""
        await self._writer.close()
        if self._readers:
            await asyncio.to_thread(self._readers.shutdown, wait=True)
            self._readers = None
        for connection in self._reading:
            connection.close()
        self._reading.clear()

    def now(self, given: datetime | None) -> int:
        """The given instant, else the clock's."""
        moved = to_micros(given)
        return self._clock() if moved is None else moved

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work in one snapshot of the database.

        Raises:
            StoreUnavailable: it cannot be read now.
        """
        if self._readers is None:
            raise unavailable(RuntimeError("the store is closed"))
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._snapshot, work)

    def _snapshot(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
                connection.execute("PRAGMA query_only=ON")
                self._reading.append(connection)
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.rollback()
        except sqlite3.Error as error:
            raise unavailable(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=5
        )
        connection.row_factory = sqlite3.Row
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "busy_timeout=5000",
            "foreign_keys=ON",
            "cache_size=-32000",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection
