"""The store on SQL: one room for each database, each with a file for each verb. What both share stands here.

Only the room of the chosen database is imported, and its driver with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskflow.adapters.sql.postgres import PostgresStore
    from taskflow.adapters.sql.sqlite import SqliteStore


def __getattr__(name: str) -> Any:
    """The store of a database, when it is asked for."""
    if name == "SqliteStore":
        from taskflow.adapters.sql.sqlite import SqliteStore  # noqa: PLC0415 - only when chosen

        return SqliteStore
    if name == "PostgresStore":
        from taskflow.adapters.sql.postgres import PostgresStore  # noqa: PLC0415 - only when chosen

        return PostgresStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["PostgresStore", "SqliteStore"]
