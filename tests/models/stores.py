"""The stores that the state machine drives, each opened once and emptied between examples."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskflow.adapters.sql import PostgresStore, SqliteStore, schema
from taskflow.adapters.sql.tables import metadata
from taskflow.ports.store import StateStore
from taskflow.testing.memory import MemoryStore
from tests.adapters.postgres_house import emptied, own_schema, url_of


@dataclass(frozen=True, slots=True)
class House:
    """A loop to run on, and a store that `fresh` empties."""

    run: Callable[[Coroutine[Any, Any, Any]], Any]
    fresh: Callable[[], StateStore]


@contextmanager
def memory(_: Path) -> Iterator[House]:
    """A new one costs nothing."""
    with asyncio.Runner() as runner:
        yield House(runner.get_loop().run_until_complete, MemoryStore)


@contextmanager
def sqlite(folder: Path) -> Iterator[House]:
    """A file."""
    path = folder / "t.db"
    schema.upgrade(f"sqlite:///{path}")
    store = SqliteStore(path)

    def fresh() -> StateStore:
        connection = sqlite3.connect(path)
        with connection:
            for table in metadata.tables:
                connection.execute(f"DELETE FROM {table}")
        connection.close()
        return store

    with asyncio.Runner() as runner:
        runner.run(store.__aenter__())
        try:
            yield House(runner.get_loop().run_until_complete, fresh)
        finally:
            runner.run(store.__aexit__(None, None, None))


@contextmanager
def postgresql(_: Path) -> Iterator[House]:
    """A schema of its own on the real server."""
    with own_schema() as name, asyncio.Runner() as runner:
        store = PostgresStore.from_url(url_of(name))

        def fresh() -> StateStore:
            runner.run(emptied(name))
            return store

        runner.run(store.__aenter__())
        try:
            yield House(runner.get_loop().run_until_complete, fresh)
        finally:
            runner.run(store.__aexit__(None, None, None))
