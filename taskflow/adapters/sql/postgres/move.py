"""Out of running, out of the live table: the clauses that every ending shares."""

from __future__ import annotations

from typing import Final

from taskflow.adapters.sql.postgres.rows import LIVE_COLUMNS, SHARED
from taskflow.adapters.sql.tables import COUNTED

LIVE_AGAIN: Final = "('queued','retrying','scheduled')"
OVER: Final = "('succeeded','cancelled','expired')"
# A row that was spoilt by hand must not end the statement for all others.
ATTEMPT: Final = "greatest(jobs.attempt - verdict.given_back, 0)"
CRASHES: Final = f"least(jobs.crashes, {COUNTED}) + verdict.crash"
INTERRUPTIONS: Final = f"least(jobs.interruptions, {COUNTED}) + verdict.interruption"


def _taken(**changed: str) -> str:
    """Columns of a row that leaves the live table, some of them changed."""
    return ", ".join(f"{changed.get(name, f'jobs.{name}')} AS {name}" for name in SHARED)


TAKEN_ALONG: Final = _taken(
    state="verdict.new_state",
    reason="verdict.new_reason",
    error="verdict.new_error",
    attempt=ATTEMPT,
    crashes=CRASHES,
    interruptions=INTERRUPTIONS,
    run_at="coalesce(verdict.new_run_at, jobs.run_at)",
    progress="coalesce(verdict.last_word, jobs.progress)",
    finished_at="verdict.now",
)


def _written(recorded: str = "") -> str:
    return f"""
gone AS (
    DELETE FROM jobs USING verdict WHERE jobs.id = verdict.id AND verdict.new_state IN {OVER}
    RETURNING {TAKEN_ALONG}, verdict.result, verdict.outcome, verdict.attempt_error, jobs.attempt AS number),
kept AS (
    UPDATE jobs SET state = verdict.new_state, reason = verdict.new_reason, error = verdict.new_error,
        attempt = {ATTEMPT}, crashes = {CRASHES}, interruptions = {INTERRUPTIONS},
        snoozes = jobs.snoozes + verdict.snooze,
        run_at = coalesce(verdict.new_run_at, jobs.run_at), progress = coalesce(verdict.last_word, jobs.progress),
        queued_at = CASE WHEN verdict.new_state = 'queued' THEN verdict.now END,
        finished_at = CASE WHEN verdict.new_state = 'failed' THEN verdict.now END, deadline_at = NULL
    FROM verdict WHERE jobs.id = verdict.id AND verdict.new_state NOT IN {OVER}
    RETURNING jobs.id, jobs.epoch, jobs.worker_id, jobs.started_at, jobs.state, jobs.queue, jobs.lane, jobs.runs_in,
        jobs.queued_at, verdict.now, verdict.outcome, verdict.attempt_error, verdict.number),
moved AS (INSERT INTO finished ({LIVE_COLUMNS}, result) SELECT {LIVE_COLUMNS}, result FROM gone),
closed AS (
    INSERT INTO attempts (job_id, epoch, number, started_at, finished_at, outcome, error, worker)
    SELECT * FROM (
        SELECT id, epoch, number, started_at, finished_at, outcome, attempt_error, worker_id FROM gone
        UNION ALL SELECT id, epoch, number, started_at, now, outcome, attempt_error, worker_id FROM kept) AS ended
    {recorded})
SELECT id, epoch, worker_id AS worker, state, queue, lane, runs_in, NULL::timestamptz AS queued_at FROM gone
UNION ALL SELECT id, epoch, worker_id, state, queue, lane, runs_in, queued_at FROM kept"""


WRITTEN: Final = _written()
"""Write endings: each closes its attempt; what is over leaves the live table. Asks for a `verdict` over locked rows:
id, now, number, new_state, new_reason, new_error, attempt_error, outcome, result, given_back, crash, interruption, snooze,
new_run_at, last_word."""
RESCUED: Final = _written("WHERE started_at IS NOT NULL AND worker_id IS NOT NULL ON CONFLICT DO NOTHING")
"""The same for epochs that nobody settles: one that is closed keeps its record, and one of which nobody knows who began it
and when gets none. Neither holds the job."""
# The results stand in the order of the ids, which are sorted: a search instead of a join.
PLACE: Final = 'width_bucket(jobs.id COLLATE "C", $2::text[])'
DONE: Final = _taken(
    state="'succeeded'",
    reason="NULL::text",
    error="NULL::text",
    attempt="greatest(jobs.attempt, 0)",
    crashes=f"least(jobs.crashes, {COUNTED})",
    interruptions=f"least(jobs.interruptions, {COUNTED})",
    # The place is a search for each row: not where nobody said a word.
    progress=f"CASE WHEN cardinality($6::text[]) = 0 THEN jobs.progress ELSE coalesce(($6::text[])[{PLACE}], jobs.progress) END",
    finished_at="clock.now",
)
SUCCEEDED: Final = f"""
gone AS (
    DELETE FROM jobs USING clock WHERE jobs.id = ANY(ARRAY(SELECT id FROM mine))
    RETURNING {DONE}, ($5::text[])[{PLACE}] AS result, jobs.attempt AS number),
moved AS (INSERT INTO finished ({LIVE_COLUMNS}, result) SELECT {LIVE_COLUMNS}, result FROM gone),
closed AS (
    INSERT INTO attempts (job_id, epoch, number, started_at, finished_at, outcome, worker)
    SELECT id, epoch, number, started_at, finished_at, 'succeeded', worker_id FROM gone)
SELECT count(*) = cardinality($2::text[]) AS whole, CASE WHEN count(*) < cardinality($2::text[]) THEN array_agg(id) END AS ids
FROM gone"""
"""Write successes of the rows in `mine`, which are locked: $2 are the ids asked for, sorted; $5 their results, $6 their last
words, or nothing. Whose they were is told where it was not all of them."""
COUNTS: Final = """
(outcome = 'crashed')::int AS crash, (outcome IN ('interrupted','lost'))::int AS interruption,
    (outcome = 'snoozed')::int AS snooze"""
CLOSED_WAITING: Final = _taken(
    state="wanted.state",
    reason="wanted.state",
    finished_at="wanted.now",
    cancel_requested_at="CASE WHEN wanted.state = 'cancelled' THEN coalesce(jobs.cancel_requested_at, wanted.now) "
    "ELSE jobs.cancel_requested_at END",
)
CLOSE_WAITING: Final = f"""
gone AS (DELETE FROM jobs USING wanted WHERE jobs.id = wanted.id RETURNING {CLOSED_WAITING}),
moved AS (INSERT INTO finished ({LIVE_COLUMNS}) SELECT {LIVE_COLUMNS} FROM gone)
SELECT id FROM gone"""
"""Move rows that do not run out of the live table. Asks for `wanted` over locked rows: id, state, now."""
