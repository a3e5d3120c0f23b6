"""Finished jobs by the day they ended, so that the old ones go by dropping a table instead of deleting rows."""

from __future__ import annotations

import logging
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from taskflow.adapters.sql.postgres.database import Connection, Database
from taskflow.adapters.sql.postgres.sides import delete_sides
from taskflow.core.errors import TaskFlowError

AHEAD: Final = 3
DAY: Final = timedelta(days=1)
DAYS: Final = """
SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = 'finished'::regclass ORDER BY relname"""
# Whoever waits for the lock keeps others behind it from the table: it is now or a minute later.
HASTY: Final = "SET LOCAL lock_timeout = '200ms'"
ALONE: Final = "SELECT pg_try_advisory_xact_lock(1952543603, hashtext(current_schema()))"
NAME: Final = re.compile(r"finished_(\d{4})(\d\d)(\d\d)")

log = logging.getLogger("taskflow")


class Partitions:
    """The days of `finished`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        # How far the side rows of a day are deleted; begun again by a process that does not know.
        self._cleared: dict[str, str] = {}

    async def make_ahead(self, now: datetime) -> None:
        """Make the partitions of today and the next days. A day that has begun without one stays in the default."""
        there = {row["name"] for row in await self._db.fetch(DAYS)}
        today = now.astimezone(UTC).date()
        for day in (today + n * DAY for n in range(AHEAD + 1)):
            if name_of(day) not in there:
                await self._hastily(lambda connection, day=day: _make(connection, day), "make", name_of(day))

    async def drop_oldest(self, before: datetime, limit: int) -> tuple[list[str], bool]:
        """Drop the oldest day that is wholly past, once all that hangs on its jobs is deleted, batch by batch.

        Returns:
            Objects that no row names any more, and whether there is more to do.
        """
        days = [row["name"] for row in await self._db.fetch(DAYS) if (end := end_of(row["name"])) and end <= before]
        if not days:
            return [], False
        name = days[0]

        async def clear(connection: Connection) -> tuple[list[str], list[str]]:
            page = f"SELECT id FROM {name} WHERE id > $1 ORDER BY id LIMIT $2"
            ids = [row["id"] for row in await connection.fetch(page, self._cleared.get(name, ""), limit)]
            return ids, await delete_sides(connection, ids)

        ids, objects = await self._db.run(clear, transaction=True)
        if ids:
            self._cleared[name] = ids[-1]
        if len(ids) == limit:
            return objects, True
        dropped = await self._hastily(lambda connection: _drop(connection, name), "drop", name)
        if dropped:
            self._cleared.pop(name, None)
        return objects, dropped and len(days) > 1

    async def _hastily(self, work: object, verb: str, name: str) -> bool:
        try:
            return await self._db.run(work, transaction=True)  # type: ignore[arg-type]
        except TaskFlowError as error:
            log.info("could not %s the partition %s, will try again: %s", verb, name, error)
            return False


def name_of(day: date) -> str:
    """The partition of a day (UTC)."""
    return f"finished_{day:%Y%m%d}"


def end_of(name: str) -> datetime | None:
    """Where a partition ends; `None` for one that is no day's."""
    found = NAME.fullmatch(name)
    return datetime.combine(date(*map(int, found.groups())) + DAY, time.min, UTC) if found else None


async def _make(connection: Connection, day: date) -> bool:
    await connection.execute(HASTY)
    start = datetime.combine(day, time.min, UTC)
    begun = "SELECT EXISTS (SELECT 1 FROM finished_default WHERE finished_at >= $1 AND finished_at < $2)"
    if not await connection.fetchval(ALONE) or await connection.fetchval(begun, start, start + DAY):
        return False
    name = name_of(day)
    # Made aside and then attached: that keeps nobody from writing to the other days.
    await connection.execute(f"CREATE TABLE {name} (LIKE finished INCLUDING ALL)")
    await connection.execute(
        f"ALTER TABLE finished ATTACH PARTITION {name} "
        f"FOR VALUES FROM ('{start.isoformat()}') TO ('{(start + DAY).isoformat()}')"
    )
    return True


async def _drop(connection: Connection, name: str) -> bool:
    await connection.execute(HASTY)
    if not await connection.fetchval(ALONE):
        return False
    await connection.execute(f"DROP TABLE {name}")
    return True
