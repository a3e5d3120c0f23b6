"""Rescue: rows of the dead, rows past their deadline, rows that nobody can run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from taskflow.adapters.sql.sqlite import move
from taskflow.adapters.sql.sqlite.database import array
from taskflow.adapters.sql.sqlite.rows import ticket_of
from taskflow.adapters.sql.tables import SOUND
from taskflow.core.job import ErrorInfo, Outcome, State, Ticket
from taskflow.core.limits import CRASHES_MAX, INTERRUPTIONS_MAX

RUNNING: Final = f"{move.RUNNING} WHERE state = 'running' AND {SOUND}"
KNOWN: Final = "SELECT mine.value FROM workers, json_each(workers.tasks) AS mine WHERE workers.state = 'alive'"
UNLISTED: Final = f"SELECT id FROM jobs WHERE state = 'queued' AND task NOT IN ({KNOWN}) AND {SOUND} LIMIT ?"
PARK: Final = f"""
UPDATE jobs SET state = 'waiting', reason = 'no_worker', queued_at = NULL
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'queued' AND task NOT IN ({KNOWN}) RETURNING id"""
UNPARK: Final = f"""
UPDATE jobs SET state = 'queued', reason = NULL, queued_at = ?
WHERE id IN (SELECT id FROM jobs WHERE state = 'waiting' AND reason = 'no_worker' AND task IN ({KNOWN}) AND {SOUND} LIMIT ?)
RETURNING id, queue, lane, runs_in, queued_at"""
CRASHED: Final = ErrorInfo("WorkerDied", "the worker that ran this job died")
LOST: Final = ErrorInfo("Lost", "the run was not settled by its deadline")


@dataclass(slots=True)
class Rescued:
    """What a rescue wrote."""

    tickets: list[Ticket] = field(default_factory=list)
    changed: list[tuple[str, State]] = field(default_factory=list)


def rescue(connection: sqlite3.Connection, rows: Sequence[sqlite3.Row], outcome: Outcome, now: int) -> Rescued:
    """Close the open epochs of running rows that nobody runs; the attempt is given back."""
    endings = []
    for row in rows:
        state, reason, error = _verdict(row, outcome)
        endings.append(move.ended(row, state, outcome, now, charged=False, reason=reason, error=error))
    move.write(connection, endings, move.RESCUED)
    return Rescued(
        [ticket_of(row) for row in endings if row["state"] is State.QUEUED],
        [(row["id"], row["state"]) for row in endings],
    )


def unlisted(connection: sqlite3.Connection, limit: int) -> list[str]:
    """Queued rows whose task no live worker lists. This looks at every queued row, so it is for readers only."""
    return [row["id"] for row in connection.execute(UNLISTED, (limit,)).fetchall()]


def park(connection: sqlite3.Connection, job_ids: Sequence[str]) -> list[tuple[str, State]]:
    """Those of the rows that still have no worker wait for one."""
    return [(row["id"], State.WAITING) for row in connection.execute(PARK, (array(job_ids),)).fetchall()]


def unpark(connection: sqlite3.Connection, now: int, limit: int = -1) -> list[Ticket]:
    """Rows whose task has a worker again are queued again, all of them unless limited."""
    return [ticket_of(row) for row in connection.execute(UNPARK, (now, limit)).fetchall()]


def _verdict(row: sqlite3.Row, outcome: Outcome) -> tuple[State, str, ErrorInfo | None]:
    error = {Outcome.CRASHED: CRASHED, Outcome.LOST: LOST}.get(outcome)
    if row["cancel_requested_at"] is not None:
        return State.CANCELLED, "cancelled", error
    if outcome is Outcome.CRASHED:
        # The death of a worker proves nothing about one of its runs: only a child that died alone is poison.
        if row["crashes"] >= CRASHES_MAX:
            return State.FAILED, "crashed_too_often", error
        return State.QUEUED, "crashed", error
    if row["interruptions"] >= INTERRUPTIONS_MAX:
        return State.FAILED, "interrupted_too_often", error
    return State.QUEUED, "interrupted", error
