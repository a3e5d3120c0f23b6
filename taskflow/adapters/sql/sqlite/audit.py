"""Questions about the whole store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from taskflow.adapters.sql import audit
from taskflow.adapters.sql.sqlite.database import Database, array
from taskflow.adapters.sql.sqlite.rows import ENDLESS, FIRST, RUNNABLE, instant
from taskflow.adapters.sql.tables import to_micros


class AuditPart(audit.AuditPart):
    """The part of the store that answers whoever checks it."""

    _db: Database
    _among = "IN (SELECT value FROM json_each({}))"
    _runnable, _first, _endless = RUNNABLE, FIRST, ENDLESS

    async def _ask(self, statement: str, **values: Any) -> Sequence[Any]:
        given = {name: _stored(value) for name, value in values.items()}
        return await self._db.read(lambda connection: connection.execute(statement, given).fetchall())

    async def _moment(self, now: datetime | None) -> datetime:
        return instant(self._db.now(now))


def _stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_micros(value)
    return array(value) if isinstance(value, list) else value
