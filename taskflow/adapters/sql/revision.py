"""Which revision is installed and which this code needs, without Alembic: its import would be a third of a start."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

HEAD: Final = "0002"
"""The newest revision; a test compares it with the migrations."""
SQLITE: Final = "sqlite:///"
POSTGRES: Final = "postgresql://"


def up_to_date(url: str) -> bool:
    """Whether it is plain at once that nothing is to be done; `False` says that Alembic must look.

    Raises:
        StoreUnavailable: a database server does not answer.
    """
    if url.startswith(POSTGRES):
        from taskflow.adapters.sql.postgres.revision import installed  # noqa: PLC0415 - only when chosen

        return installed(url) == HEAD
    path = Path(url.removeprefix(SQLITE))
    if not url.startswith(SQLITE) or not path.is_file():
        return False
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    except sqlite3.Error:
        return False
    finally:
        connection.close()
