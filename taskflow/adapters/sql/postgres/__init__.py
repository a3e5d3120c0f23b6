"""The store on PostgreSQL. Statements stand beside the method that runs them, one a method where they can."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from taskflow.adapters.sql.postgres import revision
from taskflow.adapters.sql.postgres.audit import AuditPart
from taskflow.adapters.sql.postgres.claims import ClaimsPart
from taskflow.adapters.sql.postgres.database import Database
from taskflow.adapters.sql.postgres.files import FilesPart
from taskflow.adapters.sql.postgres.partitions import Partitions
from taskflow.adapters.sql.postgres.submit import JobsPart
from taskflow.adapters.sql.postgres.upkeep import UpkeepPart
from taskflow.adapters.sql.postgres.url import Target, parse
from taskflow.adapters.sql.postgres.workers import CataloguePart, WorkersPart
from taskflow.core.errors import StoreUnavailable


class PostgresStore(JobsPart, ClaimsPart, WorkersPart, CataloguePart, UpkeepPart, FilesPart, AuditPart):
    """Everything in one schema of a PostgreSQL database, for any number of processes.

    Args:
        target: where it is, with its schema installed.
        name: what the server calls this client.
    """

    def __init__(self, target: Target, name: str = "taskflow") -> None:
        self._db = Database(target, name)
        self._partitions = Partitions(self._db)

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "taskflow", **_: Any) -> Self:
        """The store of `postgresql://user:password@host:5432/database`, with options such as `?schema=` behind it.

        Raises:
            ValueError: the URL is wrong; says how.
        """
        return cls(parse(url), namespace)

    async def __aenter__(self) -> Self:
        try:
            await self._db.open()
        except BaseException:
            await self._db.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._db.close()

    async def ping(self) -> None:
        """Prove that a transaction could write: a standby and a read-only server are no store.

        Raises:
            StoreUnavailable: it could not.
        """
        asked = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS read_only"
        [answer] = await self._db.fetch(asked)
        if answer["read_only"]:
            await self._db.expire()
            raise StoreUnavailable("the database is read-only: it is a standby, or set to be read-only")

    async def revision(self) -> str | None:
        """The schema revision that is installed."""
        return await revision.read(self._db)


__all__ = ["PostgresStore"]
