"""Questions about the whole store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from taskflow.adapters.sql import audit
from taskflow.adapters.sql.postgres.database import Database
from taskflow.adapters.sql.postgres.rows import FIRST, RUNNABLE


class AuditPart(audit.AuditPart):
    """The part of the store that answers whoever checks it."""

    _db: Database
    _among = "= ANY({})"
    _runnable, _first, _endless = RUNNABLE, FIRST, "'infinity'"

    async def _ask(self, statement: str, **values: Any) -> Sequence[Any]:
        used = list(dict.fromkeys(re.findall(r":(\w+)", statement)))
        numbered = re.sub(r":(\w+)", lambda found: f"${used.index(found[1]) + 1}", statement)
        return await self._db.fetch(numbered, *(values[name] for name in used))

    async def _moment(self, now: datetime | None) -> datetime:
        return await self._db.run(lambda connection: self._db.now(connection, now))
