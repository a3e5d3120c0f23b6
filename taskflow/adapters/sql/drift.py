"""How an installed schema differs from what the tables say."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from taskflow.adapters.sql.revision import POSTGRES, SQLITE
from taskflow.adapters.sql.schema import connected
from taskflow.adapters.sql.tables import metadata
from taskflow.adapters.sql.tuning import INDEXES
from taskflow.core.errors import StoreUnavailable

THERE: Final = {"add": "is missing", "remove": "is there, and TaskFlow knows of none", "modify": "is another"}


def drift(url: str) -> list[str]:
    """What is missing, too much, or another; tables of others are none of our business.

    Raises:
        StoreUnavailable: the database does not answer, or what it answers is no schema.
    """
    try:
        return _drift(url)
    except sa.exc.SQLAlchemyError as error:
        why = str(error).partition("\n")[0]
        raise StoreUnavailable(f"the schema cannot be read: {why}") from error


def _drift(url: str) -> list[str]:
    if url.startswith(POSTGRES):
        return connected(url, differences)
    path = Path(url.removeprefix(SQLITE)).absolute()
    # Whoever works with the file at the same time is not to wait for us.
    reader = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True),
        poolclass=sa.NullPool,
    )
    with reader.connect() as connection:
        return differences(connection)


def differences(connection: sa.Connection) -> list[str]:
    """As `drift`, on a connection."""

    def ours(_: object, named: str | None, kind: str, *__: object) -> bool:
        return named in metadata.tables if kind == "table" else named not in INDEXES

    context = MigrationContext.configure(connection, opts={"include_object": ours})
    changes: list[Any] = []
    for change in compare_metadata(context, metadata):
        changes.extend(change if isinstance(change, list) else [change])
    return [_told(*change) for change in changes]


def _told(what: str, *parts: Any) -> str:
    verb, _, kind = what.partition("_")
    last = next((part for part in reversed(parts) if hasattr(part, "name")), None)
    if verb == "modify":
        # Alembic names schema, table and column here, as texts.
        return f"{parts[1]}.{parts[2]} {THERE[verb]} ({kind})"
    table = getattr(getattr(last, "table", None), "name", None)
    name = getattr(last, "name", "?")
    place = f"{table}.{name}" if kind == "column" and table else name
    return f"{kind} {place} {THERE[verb]}"
