"""The schema's revisions, through Alembic: from the wheel or from the repository, whichever this is."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from taskflow.adapters.sql.revision import POSTGRES
from taskflow.core.errors import StoreUnavailable, TaskFlowError

T = TypeVar("T")


def location() -> Path:
    """The folder of the migrations: in the installed package, or at the repository's root."""
    package = Path(str(files("taskflow")))
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise TaskFlowError(f"the migrations are missing beside {package}: install TaskFlow again")


def engine(url: str) -> sa.Engine:
    """An engine for migrations of a SQLite file; its folder is made."""
    parsed = sa.make_url(url)
    if parsed.database:
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = sa.create_engine(parsed, poolclass=sa.NullPool)
    # The driver's own transactions leave DDL out: a revision that fails half-way must leave nothing behind.
    sa.event.listen(made, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    sa.event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return made


def connected(url: str, work: Callable[[sa.Connection], T]) -> T:
    """Do work on a connection for migrations, while no other process migrates.

    Args:
        url: the store's.
        work: what to do; it commits by itself.

    Raises:
        StoreUnavailable: the database does not answer, or somebody else migrates it without end.
    """
    if url.startswith(POSTGRES):
        from taskflow.adapters.sql.postgres.schema import connected as on_postgres  # noqa: PLC0415 - only when chosen

        return on_postgres(url, work)
    with engine(url).connect() as connection:
        return work(connection)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to a revision. Any number of processes may do so at once: one does it, the others wait."""
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to a revision."""
    _run(url, lambda config: command.downgrade(config, revision))


def current(url: str) -> str | None:
    """The installed revision, `None` where there is none.

    Raises:
        StoreUnavailable: the database does not answer, or its file is none.
    """
    if url.startswith(POSTGRES):
        from taskflow.adapters.sql.postgres.revision import installed  # noqa: PLC0415 - only when chosen

        return installed(url)
    try:
        return connected(url, lambda it: MigrationContext.configure(it).get_current_revision())
    except sa.exc.DBAPIError as error:
        raise StoreUnavailable(f"the database {sa.make_url(url).database} cannot be read: {error.orig}") from error


def head() -> str:
    """The revision that this code needs."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def history() -> list[tuple[str, str]]:
    """Every revision and what it does, newest first."""
    return [(script.revision, script.doc) for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(url: str, work: Callable[[Config], None]) -> None:
    config = _config()

    def migrate(connection: sa.Connection) -> None:
        config.attributes["connection"] = connection
        work(config)

    connected(url, migrate)
