"""Out of running: what the end of an epoch, by its worker or by a rescue, makes of its job."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from taskflow.core.job import Attempt, ErrorInfo, Outcome, State, Ticket
from taskflow.core.lifecycle import Settlement
from taskflow.core.limits import CRASHES_MAX, INTERRUPTIONS_MAX
from taskflow.testing.memory.tables import Closed, Row, Tables

CRASHED: Final = ErrorInfo("WorkerDied", "the worker that ran this job died")
LOST: Final = ErrorInfo("Lost", "the run was not settled by its deadline")


def end(tables: Tables, row: Row, ending: Settlement, now: datetime) -> State:
    """Close the open epoch of a running row; a wished cancel wins over every state that would go on."""
    state, reason = ending.state, ending.reason
    if row.cancel_requested_at is not None and not state.terminal:
        state, reason = State.CANCELLED, "cancelled"
    assert row.started_at is not None
    assert row.worker is not None
    tables.closed[row.id, row.epoch] = Closed(
        Attempt(
            epoch=row.epoch,
            number=row.attempt,
            started_at=row.started_at,
            finished_at=now,
            outcome=ending.outcome,
            error=ending.error,
            worker=row.worker,
        ),
        state,
    )
    row.state, row.reason, row.result = state, reason, ending.result
    row.error = None if state is State.SUCCEEDED else ending.error
    row.attempt -= not ending.charged
    row.crashes += ending.outcome is Outcome.CRASHED
    row.interruptions += ending.outcome in {Outcome.INTERRUPTED, Outcome.LOST}
    row.snoozes += ending.outcome is Outcome.SNOOZED
    row.run_at = row.run_at if ending.delay is None else now + timedelta(seconds=ending.delay)
    row.queued_at = now if state is State.QUEUED else None
    row.finished_at = now if state.terminal else None
    row.progress = ending.progress or row.progress
    row.deadline_at = None
    return state


def rescue(
    tables: Tables, rows: Iterable[Row], outcome: Outcome, now: datetime
) -> tuple[list[Ticket], list[tuple[str, State]]]:
    """Close the open epochs of rows that nobody runs, uncharged; returns tickets and what changed."""
    rescued = list(rows)
    for row in rescued:
        end(tables, row, _verdict(row, outcome), now)
    return (
        [row.ticket() for row in rescued if row.state is State.QUEUED],
        [(row.id, row.state) for row in rescued],
    )


def _verdict(row: Row, outcome: Outcome) -> Settlement:
    # The death of a worker proves nothing about one of its runs: only deaths without end make a job a dead letter.
    crashed = outcome is Outcome.CRASHED
    too_often = row.crashes >= CRASHES_MAX if crashed else row.interruptions >= INTERRUPTIONS_MAX
    word = "crashed" if crashed else "interrupted"
    if row.cancel_requested_at is not None:
        state, reason = State.CANCELLED, "cancelled"
    elif too_often:
        state, reason = State.FAILED, f"{word}_too_often"
    else:
        state, reason = State.QUEUED, word
    return Settlement(
        id=row.id,
        epoch=row.epoch,
        worker=row.worker or "",
        outcome=outcome,
        state=state,
        charged=False,
        error={Outcome.CRASHED: CRASHED, Outcome.LOST: LOST}.get(outcome),
        reason=reason,
    )
