"""A schema of one's own on the real PostgreSQL, and what looks at it from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from taskflow.adapters.sql import schema
from taskflow.adapters.sql.tables import metadata
from tests.servers import POSTGRES


def url_of(name: str, **options: str) -> str:
    """The store's URL of a schema."""
    return POSTGRES + "?" + "&".join(f"{key}={value}" for key, value in ({"schema": name} | options).items())


@asynccontextmanager
async def outside(name: str) -> AsyncIterator[Any]:
    """A connection that is not the store's, in the same schema."""
    connection = await asyncpg.connect(POSTGRES, server_settings={"search_path": name}, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


@contextmanager
def own_schema(*, installed: bool = True) -> Iterator[str]:
    """A schema that is there for a while."""
    name = f"tf_{uuid4().hex[:12]}"
    if installed:
        schema.upgrade(url_of(name))
    try:
        yield name
    finally:
        asyncio.run(_execute(f"DROP SCHEMA IF EXISTS {name} CASCADE"))


async def _execute(statement: str) -> None:
    async with outside("public") as connection:
        await connection.execute(statement)


async def emptied(name: str) -> None:
    """Leave no row of an earlier test."""
    async with outside(name) as connection:
        await connection.execute(";".join(f"DELETE FROM {table}" for table in metadata.tables))
