"""Rescue: rows of the dead, rows past their deadline, rows that nobody can run."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from taskflow.adapters.sql.postgres import move
from taskflow.adapters.sql.postgres.rows import CLOCK, TICKET, error_text, ticket_of
from taskflow.adapters.sql.tables import LEASE, SOUND
from taskflow.core.job import ErrorInfo, Outcome, State, Ticket
from taskflow.core.limits import CRASHES_MAX, INTERRUPTIONS_MAX

if TYPE_CHECKING:
    from taskflow.adapters.sql.postgres.database import Connection, Database

CRASHED: Final = ErrorInfo("WorkerDied", "the worker that ran this job died")
LOST: Final = ErrorInfo("Lost", "the run was not settled by its deadline")
TOO_OFTEN: Final = (
    f"CASE outcome WHEN 'crashed' THEN crashes >= {CRASHES_MAX} ELSE interruptions >= {INTERRUPTIONS_MAX} END"
)
LENGTH: Final = f"interval '1 second' * {LEASE}"
SINCE: Final = "(SELECT watched_since FROM upkeep WHERE id = 1)"
WATCHED: Final = f"{SINCE} <= clock.now - {LENGTH}"
"""Whether a worker had its whole lease to be heard while somebody watched."""
SILENT: Final = f"state = 'alive' AND heartbeat_at < clock.now - {LENGTH} AND {WATCHED}"
RUNNING: Final = f"jobs.state = 'running' AND {SOUND}"
ORPHANED: Final = "(worker_id IS NULL OR worker_id NOT IN (SELECT id FROM workers WHERE state IN ('alive','stopped')))"
LEFT: Final = "worker_id IN (SELECT id FROM workers WHERE state = 'stopped')"
LATE: Final = (
    f"deadline_at < clock.now AND EXISTS (SELECT 1 FROM workers WHERE workers.id = jobs.worker_id AND {WATCHED})"
)


def _rescue(whose: str) -> str:
    """Close the open epochs of running rows that nobody runs; the attempt is given back.

    They are taken in the order of their partial index, lest the primary key be walked through a backlog for a few rows.
    """
    return f"""
WITH {CLOCK},
mine AS MATERIALIZED (
    SELECT jobs.id, attempt AS number, crashes, interruptions, cancel_requested_at IS NOT NULL AS wished,
        $2::text AS outcome, $3::text AS error
    FROM jobs CROSS JOIN clock WHERE {RUNNING} AND {whose}
    ORDER BY worker_id LIMIT $4 FOR UPDATE OF jobs SKIP LOCKED),
verdict AS MATERIALIZED (
    SELECT id, now, number, outcome, NULL::text AS result, error AS attempt_error, error AS new_error,
        NULL::text AS last_word, NULL::timestamptz AS new_run_at, 1 AS given_back, {move.COUNTS},
        CASE WHEN wished THEN 'cancelled' WHEN {TOO_OFTEN} THEN 'failed' ELSE 'queued' END AS new_state,
        CASE WHEN wished THEN 'cancelled' WHEN {TOO_OFTEN} THEN
            CASE outcome WHEN 'crashed' THEN 'crashed_too_often' ELSE 'interrupted_too_often' END
            ELSE CASE outcome WHEN 'crashed' THEN 'crashed' ELSE 'interrupted' END END AS new_reason
    FROM mine, clock),
{move.RESCUED}"""


ORPHANS: Final = _rescue(ORPHANED)
LEFT_BEHIND: Final = _rescue(LEFT)
OVERDUE: Final = _rescue(LATE)
MINE: Final = _rescue("worker_id = $5")
NAMED: Final = _rescue("worker_id = $5 AND (jobs.id, epoch) IN (SELECT * FROM unnest($6::text[], $7::int[]))")
KNOWN: Final = """
known AS MATERIALIZED (
    SELECT DISTINCT jsonb_array_elements_text(tasks) AS task FROM workers
    WHERE state = 'alive' AND jsonb_typeof(tasks) = 'array')"""
# Which tasks are queued is found by one probe of an index for each, however many rows there are.
NAMES: Final = """
names AS (
    (SELECT task FROM jobs WHERE state = 'queued' ORDER BY task LIMIT 1)
    UNION ALL
    SELECT (SELECT jobs.task FROM jobs WHERE state = 'queued' AND jobs.task > names.task ORDER BY jobs.task LIMIT 1)
    FROM names WHERE names.task IS NOT NULL)"""
PARKED: Final = f"state = 'waiting' AND reason = 'no_worker' AND {SOUND}"
PARK: Final = f"""
WITH RECURSIVE {KNOWN}, {NAMES},
asked AS MATERIALIZED (
    SELECT found.id FROM names CROSS JOIN LATERAL (
        SELECT jobs.id FROM jobs WHERE state = 'queued' AND jobs.task = names.task AND {SOUND}
        LIMIT $1 FOR UPDATE SKIP LOCKED) AS found
    WHERE names.task NOT IN (SELECT task FROM known)
    LIMIT $1)
UPDATE jobs SET state = 'waiting', reason = 'no_worker', queued_at = NULL FROM asked WHERE jobs.id = asked.id
RETURNING jobs.id"""
UNPARK: Final = f"""
WITH {CLOCK}, {KNOWN},
asked AS MATERIALIZED (
    SELECT found.id FROM known CROSS JOIN LATERAL (
        SELECT jobs.id FROM jobs WHERE {PARKED} AND jobs.task = known.task
        LIMIT $2 FOR UPDATE SKIP LOCKED) AS found
    LIMIT $2)
UPDATE jobs SET state = 'queued', reason = NULL, queued_at = now FROM asked, clock WHERE jobs.id = asked.id
RETURNING {TICKET}"""


@dataclass(slots=True)
class Rescued:
    """What a rescue wrote."""

    tickets: list[Ticket] = field(default_factory=list)
    changed: list[tuple[str, State]] = field(default_factory=list)


async def rescue(
    connection: Database | Connection,
    statement: str,
    outcome: Outcome,
    limit: int | None,
    now: datetime | None,
    *more: Any,
) -> Rescued:
    """Rescue the rows that one of the statements above finds; rows that somebody else is writing wait for the next."""
    error = {Outcome.CRASHED: CRASHED, Outcome.LOST: LOST}.get(outcome)
    rows = await connection.fetch(statement, now, outcome, error_text(error), limit, *more)
    return Rescued(
        [ticket_of(row) for row in rows if row["state"] == State.QUEUED],
        [(row["id"], State(row["state"])) for row in rows],
    )


async def park(connection: Database | Connection, limit: int) -> list[tuple[str, State]]:
    """Queued rows whose task no live worker lists wait for one."""
    return [(row["id"], State.WAITING) for row in await connection.fetch(PARK, limit)]


async def unpark(connection: Database | Connection, now: datetime | None, limit: int) -> list[Ticket]:
    """Rows whose task has a worker again are queued again."""
    return [ticket_of(row) for row in await connection.fetch(UNPARK, now, limit)]
