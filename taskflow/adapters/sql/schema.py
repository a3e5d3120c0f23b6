"""The schema's revisions, through Alembic: from the wheel or from the repository, whichever this is."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from taskflow.core.errors import TaskFlowError


def location() -> Path:
    """The folder of the migrations: in the installed package, or at the repository's root."""
    package = Path(str(files("taskflow")))
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise TaskFlowError(f"the migrations are missing beside {package}: install TaskFlow again")


def engine(url: str) -> sa.Engine:
    """An engine for migrations; a SQLite file's folder is made."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = sa.create_engine(parsed, poolclass=sa.NullPool)
    if parsed.get_backend_name() == "sqlite":
        # The driver's own transactions leave DDL out: a revision that fails half-way must leave nothing behind.
        sa.event.listen(made, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        sa.event.listen(made, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return made


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to a revision."""
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to a revision."""
    _run(url, lambda config: command.downgrade(config, revision))


def current(url: str) -> str | None:
    """The installed revision, `None` where there is none."""
    with engine(url).connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


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
    with engine(url).connect() as connection:
        config.attributes["connection"] = connection
        work(config)
