"""Which revision is installed, by one SELECT."""

from __future__ import annotations

import asyncio
from typing import Final

from taskflow.adapters.sql.postgres.database import Database
from taskflow.adapters.sql.postgres.url import Target, parse

NAME: Final = "taskflow-start"
# A plain SELECT from a table that is not there is an error, which a pooler's transaction would not survive.
THERE: Final = "SELECT to_regclass('alembic_version') IS NOT NULL AS there"
REVISION: Final = "SELECT version_num FROM alembic_version"


async def read(database: Database) -> str | None:
    """The installed revision, `None` where there is none."""
    [answer] = await database.fetch(THERE)
    rows = await database.fetch(REVISION) if answer["there"] else []
    return str(rows[0]["version_num"]) if rows else None


def installed(url: str) -> str | None:
    """The installed revision, `None` where there is none; for callers that are on no loop.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    return asyncio.run(_installed(parse(url)))


async def _installed(target: Target) -> str | None:
    database = Database(target, NAME, 1)
    try:
        await database.open()
        return await read(database)
    finally:
        await database.close()
