"""How Alembic reaches the database: by the connection that TaskFlow hands over, or by a URL from the command line.

`alembic upgrade head` from the repository's root uses `-x url=...`, else TASKFLOW_STORE_URL, else the file of
`taskflow dev`. Tables that are not TaskFlow's are left alone.
"""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from alembic import context

from taskflow.adapters.sql.schema import connected
from taskflow.adapters.sql.tables import metadata
from taskflow.adapters.sql.tuning import INDEXES


def ours(thing: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Whether autogenerate may look at a thing of the database."""
    table = name if kind == "table" else getattr(getattr(thing, "table", None), "name", None)
    return not reflected or (table in metadata.tables and name not in INDEXES)


def migrate(connection: sa.Connection | None, url: str | None = None) -> None:
    context.configure(
        connection=connection,
        url=url,
        target_metadata=metadata,
        include_object=ours,
        render_as_batch=True,
        transaction_per_migration=True,
        literal_binds=connection is None,
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        online(given)
        return
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("TASKFLOW_STORE_URL")
    url = url or "sqlite:///.taskflow/taskflow.db"
    if context.is_offline_mode():
        migrate(None, url)
        return
    connected(url, online)


def online(connection: sa.Connection) -> None:
    migrate(connection)
    connection.commit()


main()
