"""Rows as the ports' types. Statements name their columns as those types name their fields."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from taskflow.adapters.sql.tables import finished, jobs, runnable
from taskflow.core.errors import DataRejected
from taskflow.core.job import Attempt, Claim, ErrorInfo, Job, Lane, LaneKey, Outcome, RunsIn, State, Ticket

if TYPE_CHECKING:
    from asyncpg import Record

SHARED: Final = [column.name for column in finished.columns if column.name in jobs.columns]
"""Columns that a job takes along from the live table to the finished one."""
LIVE_COLUMNS: Final = ", ".join(SHARED)
_SHOWN: Final = ", ".join(
    "worker_id AS worker" if name == "worker_id" else name for name in SHARED if name not in {"lane", "runs_in"}
)
LIVE_DOCUMENT: Final = f"{_SHOWN}, NULL::text AS result"
DONE_DOCUMENT: Final = f"{_SHOWN}, result"
CLAIMED: Final = ", ".join(
    {"id": "jobs.id", "worker": "worker_id AS worker", "tries": "attempt - attempt_base AS tries"}.get(name, name)
    for name in Claim._fields
)
"""In the order of a claim's fields."""
CLAIM_WIDTH: Final = len(Claim._fields)
TICKET: Final = "jobs.id, jobs.queue, jobs.lane, jobs.runs_in, jobs.queued_at"
# Looked up where every job passes: an enumeration takes five times as long to find its member.
STATES: Final = {state.value: state for state in State}
LANES: Final = {lane.value: lane for lane in Lane}
KINDS: Final = {kind.value: kind for kind in RunsIn}
FIRST: Final = "'0001-01-01Z'"
RUNNABLE: Final = runnable(FIRST, "'9999-12-31Z'")
CLOCK: Final = "clock AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now)"
"""The one instant of a statement: the first value if it is given, else the database's own."""


def error_text(error: ErrorInfo | None) -> str | None:
    """An error as it is stored.

    Raises:
        DataRejected: its text cannot be stored.
    """
    try:
        return None if error is None else orjson.dumps([error.type, error.message, error.traceback]).decode()
    except orjson.JSONEncodeError as refused:
        raise DataRejected(f"the error of a run cannot be stored: {refused}") from refused


def error_of(text: str | None) -> ErrorInfo | None:
    """A stored error."""
    return None if text is None else ErrorInfo(*orjson.loads(text))


def job_of(row: Record) -> Job:
    """A live or finished row as a document, with its attempts if it brings them."""
    values: dict[str, Any] = dict(row)
    attempts = tuple(attempt_of(*attempt) for attempt in values.get("attempts", ()))
    values |= {"state": State(values["state"]), "error": error_of(values["error"]), "attempts": attempts}
    return Job(**values)


def attempt_of(
    epoch: int,
    number: int,
    started_at: datetime,
    finished_at: datetime | None,
    outcome: str | None,
    error: str | None,
    worker: str,
) -> Attempt:
    """A closing record, or the open one of a running job."""
    return Attempt(
        epoch=epoch,
        number=number,
        started_at=started_at,
        finished_at=finished_at,
        outcome=None if outcome is None else Outcome(outcome),
        error=error_of(error),
        worker=worker,
    )


def claim_of(row: Record) -> Claim:
    """A row that was just claimed, whatever follows its columns."""
    return Claim._make(row[:CLAIM_WIDTH])


def ticket_of(row: Record) -> Ticket:
    """The ticket of a queued row."""
    return Ticket(row["id"], LaneKey(row["queue"], LANES[row["lane"]]), KINDS[row["runs_in"]], row["queued_at"])
