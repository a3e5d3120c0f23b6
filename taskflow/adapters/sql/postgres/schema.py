"""Migrations on PostgreSQL: on the store's own driver, by one process at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskflow.adapters.sql.postgres.database import CALL_SECONDS, connect
from taskflow.adapters.sql.postgres.errors import FAILURES
from taskflow.adapters.sql.postgres.url import Target, parse
from taskflow.core.errors import StoreUnavailable

T = TypeVar("T")
NAME: Final = "taskflow-migrate"
PATIENCE_SECONDS: Final = 600.0
POLL_SECONDS: Final = (0.1, 0.3)
UNHURRIED: Final = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
"""A migration may take as long as it takes; it still waits for locks as briefly as anybody."""
TRY_LOCK: Final = "SELECT pg_try_advisory_lock(1952543602, hashtext($1))"


def connected(url: str, work: Callable[[sa.Connection], T]) -> T:
    """Do work on a connection for migrations; see `taskflow.adapters.sql.schema.connected`."""
    target = parse(url)
    if target.pgbouncer:
        raise StoreUnavailable("a transaction pooler cannot keep a lock: migrate by the URL of the database itself")
    # A thread of its own: whoever calls may be on a loop.
    with ThreadPoolExecutor(1, NAME) as thread:
        return thread.submit(asyncio.run, _connected(target, work)).result()


async def _connected(target: Target, work: Callable[[sa.Connection], T]) -> T:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: connect(target, NAME, **UNHURRIED), poolclass=sa.NullPool
    )
    try:
        async with _alone(target), engine.connect() as connection:
            return await connection.run_sync(work)
    except FAILURES as error:
        raise StoreUnavailable(f"the schema could not be changed: {str(error) or type(error).__name__}") from error
    except sa.exc.DBAPIError as error:
        # The driver's own words, without the page of SQL around them.
        raise StoreUnavailable(f"the schema could not be changed: {error.orig}") from error
    finally:
        await engine.dispose()


@asynccontextmanager
async def _alone(target: Target) -> AsyncIterator[None]:
    """Hold the lock of migrations, on a connection that is never inside a transaction.

    It is asked for again and again and never waited for: who waits inside a statement holds a snapshot, and an index
    that is built concurrently waits for every snapshot.
    """
    connection = await connect(target, NAME, **UNHURRIED)
    try:
        schema = target.schema or await connection.fetchval("SELECT current_schema()")
        if schema is None:
            raise StoreUnavailable("the search path names no schema that is there: create one, or say ?schema=")
        end = time.monotonic() + PATIENCE_SECONDS
        while not await connection.fetchval(TRY_LOCK, schema, timeout=CALL_SECONDS):
            if time.monotonic() > end:
                raise StoreUnavailable(f"somebody else has been migrating for {PATIENCE_SECONDS:g} s; look at them")
            await asyncio.sleep(random.uniform(*POLL_SECONDS))
        if target.schema:
            await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        yield
    finally:
        # The lock ends with its session.
        await connection.close(timeout=1)
