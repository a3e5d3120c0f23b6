"""Out of running, out of the live table: the statements that every ending shares."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from taskflow.adapters.sql.sqlite.database import array
from taskflow.adapters.sql.sqlite.many import write_many
from taskflow.adapters.sql.sqlite.rows import LIVE_COLUMNS, SHARED, error_text
from taskflow.adapters.sql.tables import COUNTED
from taskflow.core.job import ErrorInfo, Outcome, State

RUNNING: Final = f"""
SELECT jobs.id, queue, lane, runs_in, min(attempt, {COUNTED}) AS attempt, epoch, min(crashes, {COUNTED}) AS crashes,
    min(interruptions, {COUNTED}) AS interruptions, min(snoozes, {COUNTED}) AS snoozes, run_at, worker_id, cancel_requested_at, started_at FROM jobs"""
"""What an ending needs to know of its row, in which one more can be counted. The payload stays where it is: a batch of
them may be half a gigabyte."""
CHANGED: Final = ("state", "reason", "error", "attempt", "crashes", "interruptions", "run_at", "finished_at")
ENDING: Final = ("id", *CHANGED, "progress", "result")
FINISH: Final = f"""
WITH ended ({", ".join(ENDING)}) AS (VALUES {{rows}})
INSERT INTO finished ({LIVE_COLUMNS}, result)
SELECT {", ".join({"progress": "coalesce(ended.progress, jobs.progress)"}.get(name, f"{'ended' if name in CHANGED else 'jobs'}.{name}") for name in SHARED)}, ended.result
FROM ended CROSS JOIN jobs ON jobs.id = ended.id"""
DELETE: Final = "DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
ATTEMPT: Final = "INTO attempts (job_id, epoch, number, started_at, finished_at, outcome, error, worker) VALUES {rows}"
CLOSING: Final = ("id", "epoch", "number", "started_at", "closed_at", "outcome", "attempt_error", "worker_id")
SETTLED: Final = f"INSERT {ATTEMPT}"
RESCUED: Final = f"INSERT OR IGNORE {ATTEMPT}"
"""An epoch that is closed keeps its record, and one of which nobody knows who began it and when gets none. Neither holds
the job."""
BACK: Final = """
UPDATE jobs SET state = :state, reason = :reason, attempt = :attempt, crashes = :crashes,
    interruptions = :interruptions, snoozes = :snoozes, run_at = :run_at, queued_at = :queued_at, error = :error,
    finished_at = :finished_at, progress = coalesce(:progress, progress), deadline_at = NULL
WHERE id = :id"""
CLOSE_WAITING: Final = f"""
INSERT INTO finished ({LIVE_COLUMNS}, result)
SELECT {", ".join({"state": "?2", "reason": "?3", "finished_at": "?4"}.get(name, name) for name in SHARED)}, NULL
FROM jobs WHERE id IN (SELECT value FROM json_each(?1))"""

Row = dict[str, Any]


def ended(
    row: sqlite3.Row,
    state: State,
    outcome: Outcome,
    now: int,
    *,
    charged: bool = True,
    reason: str | None = None,
    result: str | None = None,
    error: ErrorInfo | None = None,
    delay: float | None = None,
    progress: str | None = None,
) -> Row:
    """What becomes of a running row: the values of its new row and of its attempt's record.

    A wished cancel wins over every state that would go on.
    """
    if row["cancel_requested_at"] is not None and not state.terminal:
        state, reason = State.CANCELLED, "cancelled"
    values: Row = dict(row)
    text = error_text(error)
    values.update(
        state=state,
        reason=reason,
        result=result,
        error=text if state is not State.SUCCEEDED else None,
        number=row["attempt"],
        outcome=outcome,
        attempt_error=text,
        closed_at=now,
        attempt=max(0, row["attempt"] - (not charged)),
        crashes=row["crashes"] + (outcome is Outcome.CRASHED),
        interruptions=row["interruptions"] + (outcome in {Outcome.INTERRUPTED, Outcome.LOST}),
        snoozes=row["snoozes"] + (outcome is Outcome.SNOOZED),
        run_at=row["run_at"] if delay is None else now + round(delay * 1e6),
        queued_at=now if state is State.QUEUED else None,
        finished_at=now if state.terminal else None,
        progress=progress,
    )
    return values


def write(connection: sqlite3.Connection, rows: Sequence[Row], record: str = SETTLED) -> None:
    """Write endings: each closes its attempt; what is over leaves the live table."""
    write_many(connection, record, _row(CLOSING), [[row[name] for name in CLOSING] for row in rows])
    over = [row for row in rows if row["state"].terminal and row["state"] is not State.FAILED]
    if over:
        write_many(connection, FINISH, _row(ENDING), [[row[name] for name in ENDING] for row in over])
        connection.execute(DELETE, (array(row["id"] for row in over),))
    connection.executemany(BACK, [row for row in rows if not row["state"].terminal or row["state"] is State.FAILED])


def _row(names: Sequence[str]) -> str:
    return f"({', '.join('?' * len(names))})"


def close_waiting(
    connection: sqlite3.Connection, job_ids: Sequence[str], state: State, reason: str | None, now: int
) -> None:
    """Move rows that do not run out of the live table."""
    ids = array(job_ids)
    connection.execute(CLOSE_WAITING, (ids, state, reason, now))
    connection.execute(DELETE, (ids,))
