"""Claims: claim, draw, settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from taskflow.adapters.sql.postgres import move
from taskflow.adapters.sql.postgres.database import Connection, Database
from taskflow.adapters.sql.postgres.rows import (
    CLAIMED,
    CLOCK,
    RUNNABLE,
    STATES,
    claim_of,
    error_text,
    ticket_of,
)
from taskflow.core.job import Claim, LaneKey, Outcome, State
from taskflow.core.lifecycle import Settlement
from taskflow.core.limits import CRASHES_BEFORE_ISOLATION, DEADLINE_SLACK_SECONDS
from taskflow.ports.store import Settled

if TYPE_CHECKING:
    from asyncpg import Record

MAY_RUN: Final = f"""
state = 'queued' AND task = ANY($3::text[]) AND (expires_at IS NULL OR expires_at > clock.now) AND {RUNNABLE}"""
PAUSED: Final = "(SELECT name FROM queues WHERE paused)"
ALIVE: Final = "EXISTS (SELECT 1 FROM workers WHERE id = $2 AND state = 'alive')"
# Rows are locked and examined before, one by one by their ids: a condition here would let the planner, whose statistics
# know nothing of a burst, begin with all rows that meet it.
START: Final = f"""
UPDATE jobs SET state = 'running', reason = NULL, worker_id = $2, epoch = epoch + 1, attempt = attempt + 1,
    started_at = clock.now, deadline_at = clock.now + make_interval(secs => timeout + {DEADLINE_SLACK_SECONDS}),
    progress = NULL
FROM clock WHERE jobs.id = ANY(ARRAY(SELECT id FROM asked))
RETURNING {CLAIMED}"""
"""The plans of claims are kept, so each must be the only one: a join, planned for an empty table, would read all rows for each
of its own."""
CLAIM: Final = f"""
WITH {CLOCK},
asked AS MATERIALIZED (
    SELECT found.id FROM unnest($4::text[]) AS wanted (id) CROSS JOIN clock CROSS JOIN LATERAL (
        SELECT id, state, task, queue, expires_at, crashes, lane, priority, runs_in, attempt, epoch, max_attempts,
            attempt_base, run, interruptions, snoozes, timeout, created_at
        FROM jobs WHERE jobs.id = wanted.id OFFSET 0 FOR UPDATE) AS found
    WHERE {MAY_RUN} AND crashes < {CRASHES_BEFORE_ISOLATION} AND queue NOT IN {PAUSED} AND {ALIVE})
{START}"""


def _draw(suspects: str) -> str:
    return f"""
WITH {CLOCK},
asked AS MATERIALIZED (
    SELECT found.id
    FROM unnest($4::text[], $5::smallint[], $6::timestamptz[]) AS lanes (queue, lane, before)
    CROSS JOIN clock
    CROSS JOIN LATERAL (
        SELECT jobs.id FROM jobs
        WHERE {MAY_RUN} AND {suspects} AND jobs.queue = lanes.queue AND jobs.lane = lanes.lane
            AND queued_at < coalesce(lanes.before, 'infinity')
        ORDER BY queued_at, id LIMIT $7 FOR UPDATE SKIP LOCKED) AS found
    WHERE lanes.queue NOT IN {PAUSED} AND {ALIVE}
    LIMIT $7)
{START}, lane, queued_at"""


# Each kind has its own partial index, which fits a literal only.
DRAW: Final = _draw(f"crashes < {CRASHES_BEFORE_ISOLATION}")
DRAW_SUSPECTS: Final = _draw(f"crashes >= {CRASHES_BEFORE_ISOLATION}")
SETTLE: Final = f"""
WITH {CLOCK},
asked AS (
    SELECT * FROM unnest($2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::text[], $9::text[],
        $10::float8[], $11::text[], $12::text[])
    AS asked (id, epoch, worker, outcome, state, charged, result, error, delay, reason, progress)),
mine AS MATERIALIZED (
    SELECT found.id, found.attempt AS number, found.cancel_requested_at IS NOT NULL
        AND asked.state IN {move.LIVE_AGAIN} AS wished, asked.outcome, asked.state, asked.charged, asked.result,
        asked.error, asked.delay, asked.reason, asked.progress
    FROM asked CROSS JOIN LATERAL (
        SELECT id, epoch, worker_id, state, attempt, cancel_requested_at FROM jobs WHERE jobs.id = asked.id OFFSET 0 FOR UPDATE)
        AS found
    WHERE found.epoch = asked.epoch AND found.worker_id = asked.worker AND found.state = 'running'),
verdict AS MATERIALIZED (
    SELECT id, now, number, outcome, result, error AS attempt_error, progress AS last_word,
        CASE WHEN wished THEN 'cancelled' ELSE state END AS new_state,
        CASE WHEN wished THEN 'cancelled' ELSE reason END AS new_reason,
        CASE WHEN state <> 'succeeded' THEN error END AS new_error,
        (NOT charged)::int AS given_back, {move.COUNTS}, now + make_interval(secs => delay) AS new_run_at
    FROM mine, clock),
{move.WRITTEN}"""
SUCCEED: Final = f"""
WITH {CLOCK},
mine AS MATERIALIZED (
    SELECT found.id FROM unnest($2::text[], $3::int[]) AS asked (id, epoch) CROSS JOIN LATERAL (
        SELECT id, epoch, worker_id, state FROM jobs WHERE jobs.id = asked.id OFFSET 0 FOR UPDATE) AS found
    WHERE found.epoch = asked.epoch AND found.worker_id = $4::text AND found.state = 'running'),
{move.SUCCEEDED}"""
"""Settles successes only, as most batches do: without a join there is one plan, which can be kept."""
CLOSED: Final = """
SELECT job_id, attempts.epoch, attempts.worker, attempts.outcome, finished.state AS over
FROM unnest($1::text[], $2::int[]) AS asked (id, epoch)
JOIN attempts ON attempts.job_id = asked.id AND attempts.epoch = asked.epoch
LEFT JOIN finished ON finished.id = asked.id AND finished.epoch = asked.epoch
    AND finished.finished_at = attempts.finished_at"""

Token = tuple[str, int, str]


class ClaimsPart:
    """The part of the store that workers ask."""

    _db: Database

    async def claim(
        self, worker: str, job_ids: Sequence[str], tasks: Sequence[str], *, now: datetime | None = None
    ) -> list[Claim]:
        """queued -> running for rows by id."""
        wanted = list(dict.fromkeys(job_ids))
        found = await self._db.fetch(CLAIM, now, worker, list(tasks), sorted(wanted), kept=True)
        rows = {row["id"]: row for row in found}
        return [claim_of(rows[job_id]) for job_id in wanted if job_id in rows]

    async def draw(
        self,
        worker: str,
        lanes: Sequence[LaneKey],
        tasks: Sequence[str],
        limit: int,
        *,
        queued_before: Mapping[LaneKey, datetime] | None = None,
        isolated: bool = False,
        now: datetime | None = None,
    ) -> list[Claim]:
        """queued -> running for the oldest rows of lanes."""
        asked = [lane for lane in lanes if queued_before is None or lane in queued_before]
        if limit <= 0 or not asked:
            return []
        rows = await self._db.fetch(
            DRAW_SUSPECTS if isolated else DRAW,
            now,
            worker,
            list(tasks),
            [lane.queue for lane in asked],
            [lane.lane for lane in asked],
            [queued_before[lane] if queued_before else None for lane in asked],
            limit,
            kept=True,
        )
        places: dict[tuple[str, int], int] = {lane: place for place, lane in enumerate(asked)}
        rows.sort(key=lambda row: (places[row["queue"], row["lane"]], row["queued_at"], row["id"]))
        return [claim_of(row) for row in rows]

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        """End epochs by token."""
        if not settlements:
            return []
        if _all_succeeded(settlements):
            return await self._db.run(lambda connection: _succeed(connection, settlements, now), kept=True)
        return await self._db.run(lambda connection: _settle(connection, settlements, now))


async def _settle(connection: Connection, settlements: Sequence[Settlement], now: datetime | None) -> list[Settled]:
    asked: dict[Token, Settlement] = {}
    for one in settlements:
        asked.setdefault((one.id, one.epoch, one.worker), one)
    # The tokens of a zombie and of the row's holder may stand side by side, but a row joins only its holder's.
    rows = await connection.fetch(SETTLE, now, *_columns([asked[token] for token in sorted(asked)]))
    written = {(row["id"], row["epoch"], row["worker"]): row for row in rows}
    missing = [one for token, one in asked.items() if token not in written]
    repeated = [one for one in settlements if one is not asked[one.id, one.epoch, one.worker]]
    closed = await _closed(connection, [*missing, *repeated]) if missing or repeated else {}
    settled: list[Settled] = []
    for one in settlements:
        token = (one.id, one.epoch, one.worker)
        row = written.get(token)
        if row is None or one is not asked[token]:
            settled.append(Settled(one.id, one.epoch, _already(one, closed)))
            continue
        state = STATES[row["state"]]
        settled.append(Settled(one.id, one.epoch, state, ticket_of(row) if state is State.QUEUED else None))
    return settled


def _all_succeeded(settlements: Sequence[Settlement]) -> bool:
    """Whether they are plain successes of one worker, each of another job."""
    worker = settlements[0].worker
    return len({one.id for one in settlements}) == len(settlements) and all(
        one.outcome is Outcome.SUCCEEDED
        and one.state is State.SUCCEEDED
        and one.error is None
        and one.reason is None
        and one.charged
        and one.delay is None
        and one.worker == worker
        for one in settlements
    )


async def _succeed(connection: Connection, settlements: Sequence[Settlement], now: datetime | None) -> list[Settled]:
    asked = sorted(settlements)
    words = [one.progress for one in asked]
    [(whole, ids)] = await connection.fetch(
        SUCCEED,
        now,
        [one.id for one in asked],
        [one.epoch for one in asked],
        asked[0].worker,
        [one.result for one in asked],
        words if any(words) else [],
    )
    if whole:
        return [Settled(one.id, one.epoch, State.SUCCEEDED) for one in settlements]
    written = frozenset(ids or ())
    missing = [one for one in settlements if one.id not in written]
    closed = await _closed(connection, missing)
    return [
        Settled(one.id, one.epoch, State.SUCCEEDED if one.id in written else _already(one, closed))
        for one in settlements
    ]


def _columns(asked: Sequence[Settlement]) -> list[list[Any]]:
    rows = [
        (
            s.id,
            s.epoch,
            s.worker,
            s.outcome,
            s.state,
            s.charged,
            s.result,
            error_text(s.error),
            s.delay,
            s.reason,
            s.progress,
        )
        for s in asked
    ]
    return [list(column) for column in zip(*rows, strict=True)]


async def _closed(connection: Connection, asked: Sequence[Settlement]) -> dict[tuple[str, int], Record]:
    rows = await connection.fetch(CLOSED, [one.id for one in asked], [one.epoch for one in asked])
    return {(row["job_id"], row["epoch"]): row for row in rows}


def _already(settlement: Settlement, closed: Mapping[tuple[str, int], Record]) -> State | None:
    """My own first try made it, or somebody else's token did."""
    row = closed.get((settlement.id, settlement.epoch))
    if row is None or row["worker"] != settlement.worker or Outcome(row["outcome"]) is not settlement.outcome:
        return None
    # A cancel that was wished for may have changed what was asked: then the row went over with its attempt.
    return State(row["over"]) if row["over"] else settlement.state
