"""Upkeep: promote, sweep, retain."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

from taskflow.adapters.sql.conditions import Conditions
from taskflow.adapters.sql.sqlite.database import Database
from taskflow.adapters.sql.sqlite.move import close_waiting
from taskflow.adapters.sql.sqlite.rescue import RUNNING, Rescued, park, rescue, unlisted, unpark
from taskflow.adapters.sql.sqlite.rows import ENDLESS, ticket_of
from taskflow.adapters.sql.sqlite.submit import delete_sides
from taskflow.adapters.sql.sqlite.workers import ENDED_SHOWN
from taskflow.adapters.sql.tables import LEASE, SOUND
from taskflow.core.job import Outcome, State, Ticket
from taskflow.ports.store import Promoted, Retained, Swept

T = TypeVar("T")
DATED: Final = f"state IN ('scheduled','retrying') AND run_at < {ENDLESS} AND {SOUND}"
PROMOTE: Final = f"""
UPDATE jobs SET state = 'queued', reason = NULL, run_at = NULL, queued_at = ?1
WHERE id IN (SELECT id FROM jobs WHERE {DATED} AND run_at <= ?1 ORDER BY run_at LIMIT ?2)
RETURNING id, queue, lane, runs_in, queued_at"""
NEXT_DUE: Final = f"SELECT min(run_at) FROM jobs WHERE {DATED}"
DUE: Final = f"SELECT 1 FROM jobs WHERE {DATED} AND run_at <= ? LIMIT 1"
LENGTH: Final = f"1000000 * {LEASE}"
WATCHED: Final = f"(SELECT watched_since FROM upkeep WHERE id = 1) <= ?1 - {LENGTH}"
"""Whether a worker had its whole lease to be heard while somebody watched."""
SILENT: Final = f"""
UPDATE workers SET state = 'dead' WHERE state = 'alive' AND heartbeat_at < ?1 - {LENGTH} AND {WATCHED} RETURNING id"""
IN_GRACE: Final = f"SELECT 1 FROM workers WHERE state = 'alive' AND NOT {WATCHED} LIMIT 1"
# `+id` keeps the sort away from the primary key, which would be walked through the whole backlog for it.
ORPHANS: Final = f"""
{RUNNING} AND (worker_id IS NULL OR worker_id NOT IN (SELECT id FROM workers WHERE state IN ('alive','stopped')))
ORDER BY +id LIMIT ?"""
LEFT_BEHIND: Final = f"{RUNNING} AND worker_id IN (SELECT id FROM workers WHERE state = 'stopped') ORDER BY +id LIMIT ?"
OVERDUE: Final = f"""
{RUNNING} AND deadline_at < ?1 AND worker_id IN (SELECT id FROM workers WHERE {WATCHED}) ORDER BY +id LIMIT ?2"""
EXPIRED: Final = f"""
SELECT id FROM jobs WHERE expires_at <= ? AND state IN ('scheduled','waiting','queued','retrying') AND {SOUND} LIMIT ?"""
SWEPT: Final = """
INSERT INTO upkeep (id, last_sweep_at, watched_since) VALUES (1, ?1, ?2)
ON CONFLICT (id) DO UPDATE SET last_sweep_at = excluded.last_sweep_at, watched_since = excluded.watched_since"""
OLD: Final = "DELETE FROM finished WHERE id IN (SELECT id FROM finished WHERE finished_at < ? LIMIT ?) RETURNING id"
OLD_KEYS: Final = """
DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM idempotency WHERE expires_at <= ? LIMIT ?)"""


class UpkeepPart:
    """The part of the store that keeps house."""

    _db: Database

    async def promote(self, limit: int = 500, *, now: datetime | None = None) -> Promoted:
        """Due rows become queued."""

        def work(connection: sqlite3.Connection) -> Promoted:
            moment = self._db.now(now)
            rows = connection.execute(PROMOTE, (moment, limit)).fetchall()
            next_due = connection.execute(NEXT_DUE).fetchone()[0]
            return Promoted([ticket_of(row) for row in rows], _until(next_due, moment), more=len(rows) == limit)

        moment = self._db.now(now)
        due, next_due = await self._db.read(
            lambda connection: (
                connection.execute(DUE, (moment,)).fetchone(),
                connection.execute(NEXT_DUE).fetchone()[0],
            )
        )
        if due:
            return await self._db.write(work)
        return Promoted((), _until(next_due, moment))

    async def sweep(self, gap: float, *, limit: int = 500, now: datetime | None = None) -> Swept:
        """Bring everything that stands wrong back in order, a transaction for each condition."""
        # Whatever comes between, all is judged by one reading of the clock.
        moment, in_grace, dead = await self._db.write(
            lambda connection: _bury(connection, round(gap * 1e6), self._db.now(now))
        )
        each = Conditions()

        async def tried(work: Callable[[sqlite3.Connection], T], nothing: T) -> T:
            return await each.tried(self._db.write(work), nothing)

        async def rescued(outcome: Outcome, statement: str, *values: Any) -> Rescued:
            return await tried(
                lambda connection: rescue(
                    connection, connection.execute(statement, values).fetchall(), outcome, moment
                ),
                Rescued(),
            )

        rescues = [
            await rescued(Outcome.INTERRUPTED, LEFT_BEHIND, limit),
            await rescued(Outcome.CRASHED, ORPHANS, limit),
            await rescued(Outcome.LOST, OVERDUE, moment, limit),
        ]
        expired: list[str] = await tried(lambda connection: _expire(connection, moment, limit), [])
        unparked: list[Ticket] = await tried(lambda connection: unpark(connection, moment, limit), [])
        homeless: list[str] = await each.tried(self._db.read(lambda connection: unlisted(connection, limit)), [])
        parked: list[tuple[str, State]] = await tried(lambda connection: park(connection, homeless), [])
        each.check()
        return Swept(
            tickets=[*(ticket for found in rescues for ticket in found.tickets), *unparked],
            dead_workers=dead,
            rescued=sum(len(found.changed) for found in rescues),
            expired=len(expired),
            parked=len(parked),
            unparked=len(unparked),
            in_grace=in_grace,
            changed=[
                *(change for found in rescues for change in found.changed),
                *parked,
                *((ticket.job_id, State.QUEUED) for ticket in unparked),
                *((job_id, State.EXPIRED) for job_id in expired),
            ],
        )

    async def adopt(self, *, now: datetime | None = None) -> Swept:
        """The lock proves every other process dead."""

        def work(connection: sqlite3.Connection) -> Swept:
            moment = self._db.now(now)
            dead = connection.execute("UPDATE workers SET state = 'dead' WHERE state = 'alive' RETURNING id").fetchall()
            interrupted = rescue(
                connection, connection.execute(LEFT_BEHIND, (-1,)).fetchall(), Outcome.INTERRUPTED, moment
            )
            crashed = rescue(connection, connection.execute(ORPHANS, (-1,)).fetchall(), Outcome.CRASHED, moment)
            connection.execute(SWEPT, (moment, moment))
            return Swept(
                tickets=[*interrupted.tickets, *crashed.tickets],
                dead_workers=[row["id"] for row in dead],
                rescued=len(interrupted.changed) + len(crashed.changed),
                changed=[*interrupted.changed, *crashed.changed],
            )

        return await self._db.write(work)

    async def retain(self, seconds: float, *, limit: int = 500, now: datetime | None = None) -> Retained:
        """Delete what is past its time."""

        def work(connection: sqlite3.Connection) -> Retained:
            moment = self._db.now(now)
            old = connection.execute(OLD, (moment - round(seconds * 1e6), limit)).fetchall()
            keys = connection.execute(OLD_KEYS, (moment, limit)).rowcount
            connection.execute(
                "DELETE FROM workers WHERE state <> 'alive' AND heartbeat_at < ?", (moment - ENDED_SHOWN,)
            )
            objects = delete_sides(connection, [row["id"] for row in old])
            return Retained(objects, limit in (len(old), keys))

        return await self._db.write(work)


def _until(instant: int | None, now: int) -> float | None:
    return None if instant is None else max(0.0, (instant - now) / 1e6)


def _bury(connection: sqlite3.Connection, gap: int, now: int) -> tuple[int, bool, list[str]]:
    """What time it is, whether somebody has grace now, and who is dead since.

    One rule for database outages, absent sweepers, suspends and clock steps: whoever sweeps again after a gap gives each
    worker its whole lease to be heard.
    """
    row = connection.execute("SELECT last_sweep_at, watched_since FROM upkeep WHERE id = 1").fetchone()
    watched = bool(row) and now - gap <= row["last_sweep_at"] <= now
    connection.execute(SWEPT, (now, row["watched_since"] if watched else now))
    in_grace = connection.execute(IN_GRACE, (now,)).fetchone() is not None
    return now, in_grace, [row["id"] for row in connection.execute(SILENT, (now,)).fetchall()]


def _expire(connection: sqlite3.Connection, now: int, limit: int) -> list[str]:
    expired = [row["id"] for row in connection.execute(EXPIRED, (now, limit)).fetchall()]
    close_waiting(connection, expired, State.EXPIRED, "expired", now)
    return expired
