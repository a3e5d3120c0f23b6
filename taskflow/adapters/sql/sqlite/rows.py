"""Rows as the ports' types."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from taskflow.adapters.sql.tables import finished, from_micros, jobs, runnable, to_micros
from taskflow.core.job import Attempt, Claim, ErrorInfo, Job, Lane, LaneKey, Outcome, RunsIn, State, Ticket

SHARED: Final = [column.name for column in finished.columns if column.name in jobs.columns]
"""Columns that a job takes along from the live table to the finished one."""
LIVE_COLUMNS: Final = ", ".join(SHARED)
LIVE_DOCUMENT: Final = f"{LIVE_COLUMNS}, NULL AS result"
DONE_DOCUMENT: Final = f"{LIVE_COLUMNS}, result"
FIRST, LAST = (str(to_micros(datetime(*day, tzinfo=UTC))) for day in ((1, 1, 1), (9999, 12, 31)))
RUNNABLE: Final = runnable(FIRST, LAST)
ENDLESS: Final = "9e18"
"""Beyond every instant; a text is greater than every number."""
CLAIM_COLUMNS: Final = """
id, tenant, task, queue, priority, payload, epoch, worker_id, attempt, attempt_base, max_attempts, timeout, run, crashes,
    interruptions, snoozes, tags, metadata, created_at, started_at"""


def instant(value: int) -> datetime:
    """An instant that is there."""
    moment = from_micros(value)
    assert moment is not None
    return moment


def error_text(error: ErrorInfo | None) -> str | None:
    """An error as it is stored."""
    return None if error is None else orjson.dumps([error.type, error.message, error.traceback]).decode()


def error_of(text: str | None) -> ErrorInfo | None:
    """A stored error."""
    return None if text is None else ErrorInfo(*orjson.loads(text))


def job_of(row: sqlite3.Row, attempts: tuple[Attempt, ...] = ()) -> Job:
    """A live or finished row as a document."""
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        task=row["task"],
        queue=row["queue"],
        state=State(row["state"]),
        reason=row["reason"],
        priority=row["priority"],
        payload=row["payload"],
        result=row["result"],
        error=error_of(row["error"]),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        run=row["run"],
        epoch=row["epoch"],
        crashes=row["crashes"],
        interruptions=row["interruptions"],
        run_at=from_micros(row["run_at"]),
        expires_at=from_micros(row["expires_at"]),
        timeout=row["timeout"],
        tags=row["tags"],
        metadata=row["metadata"],
        idempotency_key=row["idempotency_key"],
        progress=row["progress"],
        worker=row["worker_id"],
        cancel_requested_at=from_micros(row["cancel_requested_at"]),
        created_at=instant(row["created_at"]),
        started_at=from_micros(row["started_at"]),
        finished_at=from_micros(row["finished_at"]),
        attempts=attempts,
    )


def attempt_of(row: sqlite3.Row) -> Attempt:
    """A closing record."""
    return Attempt(
        epoch=row["epoch"],
        number=row["number"],
        started_at=instant(row["started_at"]),
        finished_at=from_micros(row["finished_at"]),
        outcome=Outcome(row["outcome"]),
        error=error_of(row["error"]),
        worker=row["worker"],
    )


def claim_of(row: sqlite3.Row) -> Claim:
    """A row that was just claimed."""
    return Claim(
        id=row["id"],
        tenant=row["tenant"],
        task=row["task"],
        queue=row["queue"],
        priority=row["priority"],
        payload=row["payload"],
        epoch=row["epoch"],
        worker=row["worker_id"],
        attempt=row["attempt"],
        tries=row["attempt"] - row["attempt_base"],
        max_attempts=row["max_attempts"],
        timeout=row["timeout"],
        run=row["run"],
        crashes=row["crashes"],
        interruptions=row["interruptions"],
        snoozes=row["snoozes"],
        tags=row["tags"],
        metadata=row["metadata"],
        created_at=instant(row["created_at"]),
        started_at=instant(row["started_at"]),
    )


def ticket_of(row: Any) -> Ticket:
    """The ticket of a queued row."""
    return Ticket(
        row["id"], LaneKey(row["queue"], Lane(row["lane"])), RunsIn(row["runs_in"]), instant(row["queued_at"])
    )
