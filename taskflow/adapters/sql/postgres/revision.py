"""Which revision is installed, by one SELECT."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg

from taskflow.adapters.sql.postgres.database import connect
from taskflow.adapters.sql.postgres.errors import translated
from taskflow.adapters.sql.postgres.url import parse

REVISION: Final = "SELECT version_num FROM alembic_version"


def installed(url: str) -> str | None:
    """The installed revision, `None` where there is none.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    return asyncio.run(_installed(url))


async def _installed(url: str) -> str | None:
    try:
        connection = await connect(parse(url), "taskflow-start")
        try:
            found = await connection.fetchval(REVISION)
        finally:
            await connection.close(timeout=1)
    except asyncpg.UndefinedTableError:
        return None
    except (ValueError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise translated(error, sent=False) from error
    return None if found is None else str(found)
