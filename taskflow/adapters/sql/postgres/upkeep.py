"""Upkeep: promote, sweep, retain."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from taskflow.adapters.sql.conditions import Conditions
from taskflow.adapters.sql.postgres.database import Connection, Database
from taskflow.adapters.sql.postgres.move import CLOSE_WAITING
from taskflow.adapters.sql.postgres.partitions import Partitions
from taskflow.adapters.sql.postgres.rescue import (
    KNOWN,
    LATE,
    LEFT,
    LEFT_BEHIND,
    LENGTH,
    NAMES,
    ORPHANED,
    ORPHANS,
    OVERDUE,
    PARKED,
    RUNNING,
    SILENT,
    SINCE,
    Rescued,
    park,
    rescue,
    unpark,
)
from taskflow.adapters.sql.postgres.rows import CLOCK, TICKET, ticket_of
from taskflow.adapters.sql.postgres.sides import delete_sides
from taskflow.adapters.sql.tables import SOUND
from taskflow.core.errors import TaskFlowError
from taskflow.core.job import Outcome, State
from taskflow.ports.store import Promoted, Retained, Swept

DUE: Final = f"state IN ('scheduled','retrying') AND run_at < 'infinity' AND {SOUND}"
PROMOTE: Final = f"""
WITH {CLOCK},
asked AS MATERIALIZED (
    SELECT id FROM jobs WHERE {DUE} AND run_at <= (SELECT now FROM clock)
    ORDER BY run_at LIMIT $2 FOR UPDATE SKIP LOCKED)
UPDATE jobs SET state = 'queued', reason = NULL, run_at = NULL, queued_at = now
FROM asked, clock WHERE jobs.id = asked.id
RETURNING {TICKET}"""
NEXT_DUE: Final = f"""
SELECT (extract(epoch FROM run_at) - extract(epoch FROM coalesce($1::timestamptz, clock_timestamp())))::float8 AS left
FROM jobs WHERE {DUE} ORDER BY run_at LIMIT 1"""
EXPIRED: Final = f"state IN ('scheduled','waiting','queued','retrying') AND {SOUND}"
WRONG: Final = " OR ".join(
    f"EXISTS ({each})"
    for each in (
        f"SELECT 1 FROM workers WHERE {SILENT}",
        *(f"SELECT 1 FROM jobs WHERE {RUNNING} AND {whose}" for whose in (LEFT, ORPHANED, LATE)),
        f"SELECT 1 FROM jobs WHERE expires_at <= clock.now AND {EXPIRED}",
        f"WITH {KNOWN} SELECT 1 FROM known WHERE EXISTS (SELECT 1 FROM jobs WHERE {PARKED} AND jobs.task = known.task)",
        f"WITH RECURSIVE {KNOWN}, {NAMES} SELECT 1 FROM names WHERE names.task NOT IN (SELECT task FROM known)",
    )
)
"""What a sweep is for, in one look: mostly there is nothing, which need not cost a statement for each."""
# The clock is read when the row is ours: of two sweeps at once none sees the other's ahead of its own time.
WATCH: Final = f"""
INSERT INTO upkeep (id, last_sweep_at, watched_since)
SELECT 1, now, now FROM (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now) AS clock
ON CONFLICT (id) DO UPDATE SET (last_sweep_at, watched_since) = (
    SELECT now, CASE WHEN upkeep.last_sweep_at BETWEEN now - $2::interval AND now THEN upkeep.watched_since ELSE now END
    FROM (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now) AS clock)
RETURNING EXISTS (
    SELECT 1 FROM workers WHERE state = 'alive' AND upkeep.last_sweep_at - {LENGTH} < upkeep.watched_since) AS in_grace"""
WATCH_AND_LOOK: Final = (
    f"{WATCH}, {WRONG.replace('clock.now', 'upkeep.last_sweep_at').replace(SINCE, 'upkeep.watched_since')} AS wrong"
)
BURY: Final = f"""
WITH {CLOCK},
asked AS MATERIALIZED (
    SELECT id FROM workers CROSS JOIN clock WHERE {SILENT}
    ORDER BY id FOR UPDATE OF workers SKIP LOCKED)
UPDATE workers SET state = 'dead' FROM asked WHERE workers.id = asked.id RETURNING workers.id"""
EXPIRE: Final = f"""
WITH {CLOCK},
asked AS MATERIALIZED (
    SELECT id FROM jobs WHERE expires_at <= (SELECT now FROM clock) AND {EXPIRED}
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED),
wanted AS (SELECT id, 'expired' AS state, now FROM asked, clock),
{CLOSE_WAITING}"""
OLD_KEYS: Final = f"""
WITH {CLOCK},
asked AS MATERIALIZED (
    SELECT tenant, route, key FROM idempotency WHERE expires_at <= (SELECT now FROM clock)
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
DELETE FROM idempotency USING asked
WHERE idempotency.tenant = asked.tenant AND idempotency.route = asked.route AND idempotency.key = asked.key
RETURNING 1"""
OLD_WORKERS: Final = """
DELETE FROM workers WHERE state <> 'alive'
    AND heartbeat_at < coalesce($1::timestamptz, clock_timestamp()) - interval '1 day'
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.worker_id = workers.id AND jobs.state = 'running')"""
SHORT: Final = timedelta(days=3)
"""A retention that is shorter is not left to whole days."""


class UpkeepPart:
    """The part of the store that keeps house."""

    _db: Database
    _partitions: Partitions

    async def promote(self, limit: int = 500, *, now: datetime | None = None) -> Promoted:
        """Due rows become queued."""
        left = await self._left(now)
        if left is None or left > 0:
            return Promoted([], left, more=False)
        rows = await self._db.fetch(PROMOTE, now, limit)
        more = len(rows) == limit
        left = 0.0 if more else await self._left(now)
        return Promoted([ticket_of(row) for row in rows], left, more=more)

    async def _left(self, now: datetime | None) -> float | None:
        """Seconds until the next row is due."""
        rows = await self._db.fetch(NEXT_DUE, now, kept=True)
        return max(0.0, rows[0]["left"]) if rows else None

    async def sweep(self, gap: float, *, limit: int = 500, now: datetime | None = None) -> Swept:
        """Bring everything that stands wrong back in order, a statement and a transaction for each condition."""
        try:
            [watch] = await self._db.fetch(WATCH_AND_LOOK, now, timedelta(seconds=gap), kept=True)
            wrong = watch["wrong"]
        except TaskFlowError:
            # Whatever it is that cannot be looked at, all else can be mended.
            [watch] = await self._db.fetch(WATCH, now, timedelta(seconds=gap), kept=True)
            wrong = True
        if not wrong:
            return Swept(in_grace=watch["in_grace"])
        each = Conditions()
        tried = each.tried
        dead = _ids(await tried(self._db.fetch(BURY, now), []))
        rescues = [
            await tried(rescue(self._db, LEFT_BEHIND, Outcome.INTERRUPTED, limit, now), Rescued()),
            await tried(rescue(self._db, ORPHANS, Outcome.CRASHED, limit, now), Rescued()),
            await tried(rescue(self._db, OVERDUE, Outcome.LOST, limit, now), Rescued()),
        ]
        expired = _ids(await tried(self._db.fetch(EXPIRE, now, limit), []))
        unparked = await tried(unpark(self._db, now, limit), [])
        parked = await tried(park(self._db, limit), [])
        each.check()
        return Swept(
            tickets=[*(ticket for found in rescues for ticket in found.tickets), *unparked],
            dead_workers=dead,
            rescued=sum(len(found.changed) for found in rescues),
            expired=len(expired),
            parked=len(parked),
            unparked=len(unparked),
            in_grace=watch["in_grace"],
            changed=[
                *(change for found in rescues for change in found.changed),
                *parked,
                *((ticket.job_id, State.QUEUED) for ticket in unparked),
                *((job_id, State.EXPIRED) for job_id in expired),
            ],
        )

    async def adopt(self, *, now: datetime | None = None) -> Swept:
        """Never: other processes use this database, too."""
        raise TaskFlowError("nobody holds a PostgreSQL database alone: the sweep finds the dead")

    async def retain(self, seconds: float, *, limit: int = 500, now: datetime | None = None) -> Retained:
        """Drop whole days, and delete the rest of what is past its time."""
        keep = timedelta(seconds=seconds)
        moment = await self._db.run(lambda connection: self._db.now(connection, now))
        await self._partitions.make_ahead(moment)
        objects, more = await self._partitions.drop_oldest(moment - keep, limit)
        # What no day's partition holds is deleted row by row.
        table = "finished" if keep < SHORT else "finished_default"
        deleted = await self._delete(table, moment - keep, limit)
        keys = await self._db.fetch(OLD_KEYS, now, limit)
        await self._db.fetch(OLD_WORKERS, now)
        return Retained([*objects, *deleted.objects], more or deleted.more or len(keys) == limit)

    async def _delete(self, table: str, before: datetime, limit: int) -> Retained:
        async def work(connection: Connection) -> Retained:
            rows: Sequence[Any] = await connection.fetch(_old(table), before, limit)
            return Retained(await delete_sides(connection, [row["id"] for row in rows]), len(rows) == limit)

        return await self._db.run(work, transaction=True)


def _ids(rows: Sequence[Any]) -> list[str]:
    return [row["id"] for row in rows]


def _old(table: str) -> str:
    return f"""
WITH asked AS MATERIALIZED (
    SELECT id, finished_at FROM {table} WHERE finished_at < $1
    ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)
DELETE FROM {table} AS old USING asked WHERE old.id = asked.id AND old.finished_at = asked.finished_at
RETURNING old.id"""
