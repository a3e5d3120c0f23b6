"""The schema, by the store's URL."""

from __future__ import annotations

from taskflow.adapters.sql import revision
from taskflow.core.errors import TaskFlowError


class SchemaBehind(TaskFlowError):
    """The schema is older than this code."""


def upgrade(url: str, to: str = "head") -> None:
    """Bring the schema to a revision."""
    from taskflow.adapters.sql import schema  # noqa: PLC0415 - costs a start

    schema.upgrade(url, to)


def downgrade(url: str, to: str) -> None:
    """Take the schema back to a revision."""
    from taskflow.adapters.sql import schema  # noqa: PLC0415 - costs a start

    schema.downgrade(url, to)


def current(url: str) -> str | None:
    """The installed revision."""
    from taskflow.adapters.sql import schema  # noqa: PLC0415 - costs a start

    return schema.current(url)


def history() -> list[tuple[str, str]]:
    """Every revision, newest first."""
    from taskflow.adapters.sql import schema  # noqa: PLC0415 - costs a start

    return schema.history()


def drift(url: str) -> list[str]:
    """How the installed schema differs from what this code needs."""
    from taskflow.adapters.sql import drift as differences  # noqa: PLC0415 - costs a start

    return differences.drift(url)


def prepare(url: str, *, migrate: bool) -> str:
    """Make sure that the schema fits; one that is ahead of this code is left to the newer process that made it.

    Raises:
        SchemaBehind: it is older, and may not be migrated here.
    """
    if revision.up_to_date(url):
        return revision.HEAD
    from taskflow.adapters.sql import schema  # noqa: PLC0415 - costs a start

    known = [name for name, _ in schema.history()]
    installed = schema.current(url)
    if installed == schema.head() or (installed is not None and installed not in known):
        return installed
    if not migrate:
        raise SchemaBehind(
            f"the schema is at {installed or 'nothing'} and this code needs {schema.head()}: run `taskflow db upgrade`, or "
            "start with --migrate"
        )
    schema.upgrade(url)
    return schema.head()
