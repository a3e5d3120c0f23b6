"""Out of running, out of the live table: the clauses that every ending shares."""

from __future__ import annotations

from typing import Final

from taskflow.adapters.sql.postgres.rows import LIVE_COLUMNS, SHARED

LIVE_AGAIN: Final = "('queued','retrying','scheduled')"
OVER: Final = "('succeeded','cancelled','expired')"
TAKEN_ALONG: Final = ", ".join(
    {
        "state": "verdict.new_state",
        "reason": "verdict.new_reason",
        "error": "verdict.new_error",
        "attempt": "jobs.attempt - verdict.given_back",
        "crashes": "jobs.crashes + verdict.crash",
        "interruptions": "jobs.interruptions + verdict.interruption",
        "run_at": "coalesce(verdict.new_run_at, jobs.run_at)",
        "progress": "coalesce(verdict.last_word, jobs.progress)",
        "finished_at": "verdict.now",
    }.get(name, f"jobs.{name}")
    + f" AS {name}"
    for name in SHARED
)
WRITTEN: Final = f"""
gone AS (
    DELETE FROM jobs USING verdict WHERE jobs.id = verdict.id AND verdict.new_state IN {OVER}
    RETURNING {TAKEN_ALONG}, verdict.result, verdict.outcome, verdict.attempt_error, jobs.attempt AS number),
kept AS (
    UPDATE jobs SET state = verdict.new_state, reason = verdict.new_reason, error = verdict.new_error,
        attempt = jobs.attempt - verdict.given_back, crashes = jobs.crashes + verdict.crash,
        interruptions = jobs.interruptions + verdict.interruption, snoozes = jobs.snoozes + verdict.snooze,
        run_at = coalesce(verdict.new_run_at, jobs.run_at), progress = coalesce(verdict.last_word, jobs.progress),
        queued_at = CASE WHEN verdict.new_state = 'queued' THEN verdict.now END,
        finished_at = CASE WHEN verdict.new_state = 'failed' THEN verdict.now END, deadline_at = NULL
    FROM verdict WHERE jobs.id = verdict.id AND verdict.new_state NOT IN {OVER}
    RETURNING jobs.id, jobs.epoch, jobs.worker_id, jobs.started_at, jobs.state, jobs.queue, jobs.lane, jobs.runs_in,
        jobs.queued_at, verdict.now, verdict.outcome, verdict.attempt_error, verdict.number),
moved AS (INSERT INTO finished ({LIVE_COLUMNS}, result) SELECT {LIVE_COLUMNS}, result FROM gone),
closed AS (
    INSERT INTO attempts (job_id, epoch, number, started_at, finished_at, outcome, error, worker)
    SELECT id, epoch, number, started_at, finished_at, outcome, attempt_error, worker_id FROM gone
    UNION ALL SELECT id, epoch, number, started_at, now, outcome, attempt_error, worker_id FROM kept)
SELECT id, epoch, worker_id AS worker, state, queue, lane, runs_in, NULL::timestamptz AS queued_at FROM gone
UNION ALL SELECT id, epoch, worker_id, state, queue, lane, runs_in, queued_at FROM kept"""
"""Write endings: each closes its attempt; what is over leaves the live table. Asks for a `verdict` over locked rows:
id, now, number, new_state, new_reason, new_error, attempt_error, outcome, result, given_back, crash, interruption, snooze,
new_run_at, last_word."""
COUNTS: Final = """
(outcome = 'crashed')::int AS crash, (outcome IN ('interrupted','lost'))::int AS interruption,
    (outcome = 'snoozed')::int AS snooze"""
CLOSED_WAITING: Final = ", ".join(
    {
        "state": "wanted.state",
        "reason": "wanted.state",
        "finished_at": "wanted.now",
        "cancel_requested_at": "CASE WHEN wanted.state = 'cancelled' THEN coalesce(jobs.cancel_requested_at, wanted.now) "
        "ELSE jobs.cancel_requested_at END",
    }.get(name, f"jobs.{name}")
    + f" AS {name}"
    for name in SHARED
)
CLOSE_WAITING: Final = f"""
gone AS (DELETE FROM jobs USING wanted WHERE jobs.id = wanted.id RETURNING {CLOSED_WAITING}),
moved AS (INSERT INTO finished ({LIVE_COLUMNS}) SELECT {LIVE_COLUMNS} FROM gone)
SELECT id FROM gone"""
"""Move rows that do not run out of the live table. Asks for `wanted` over locked rows: id, state, now."""
