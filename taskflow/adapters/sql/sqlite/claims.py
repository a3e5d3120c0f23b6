"""Claims: claim, draw, settle."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from taskflow.adapters.sql.sqlite import move
from taskflow.adapters.sql.sqlite.database import Database, array
from taskflow.adapters.sql.sqlite.rows import CLAIM_COLUMNS, RUNNABLE, claim_of, ticket_of
from taskflow.adapters.sql.tables import to_micros
from taskflow.core.job import Claim, LaneKey, Outcome, State
from taskflow.core.lifecycle import Settlement
from taskflow.core.limits import CRASHES_BEFORE_ISOLATION, DEADLINE_SLACK_SECONDS
from taskflow.ports.store import Settled

MAY_RUN: Final = f"""
state = 'queued' AND task IN (SELECT value FROM json_each(:tasks)) AND {RUNNABLE}
AND (expires_at IS NULL OR expires_at > :now)
AND queue NOT IN (SELECT name FROM queues WHERE paused)
AND EXISTS (SELECT 1 FROM workers WHERE id = :worker AND state = 'alive')"""
START: Final = f"""
UPDATE jobs SET state = 'running', reason = NULL, worker_id = :worker, epoch = epoch + 1, attempt = attempt + 1,
    started_at = :now, deadline_at = :now + CAST((timeout + {DEADLINE_SLACK_SECONDS}) * 1000000 AS INTEGER),
    progress = NULL
WHERE {MAY_RUN} AND id IN"""
CLAIM: Final = f"""{START} (SELECT value FROM json_each(:ids)) AND crashes < {CRASHES_BEFORE_ISOLATION}
RETURNING {CLAIM_COLUMNS}"""
DRAW: Final = f"""{START} (
    SELECT id FROM jobs WHERE state = 'queued' AND queue = :queue AND lane = :lane AND queued_at < :before
        AND {MAY_RUN} AND (crashes >= {CRASHES_BEFORE_ISOLATION}) = :isolated
    ORDER BY queued_at, id LIMIT :limit)
RETURNING {CLAIM_COLUMNS}, queued_at"""
MINE: Final = f"""
{move.RUNNING} JOIN json_each(:runs) AS asked ON jobs.id = asked.value ->> 0
WHERE jobs.epoch = asked.value ->> 1 AND jobs.worker_id = asked.value ->> 2 AND jobs.state = 'running'"""
CLOSED: Final = """
SELECT worker, outcome, (SELECT state FROM finished WHERE finished.id = attempts.job_id
    AND finished.epoch = attempts.epoch AND finished.finished_at = attempts.finished_at) AS over
FROM attempts WHERE job_id = ? AND epoch = ?"""
FAR: Final = 1 << 62


class ClaimsPart:
    """The part of the store that workers ask."""

    _db: Database

    async def claim(
        self, worker: str, job_ids: Sequence[str], tasks: Sequence[str], *, now: datetime | None = None
    ) -> list[Claim]:
        """queued -> running for rows by id."""

        def work(connection: sqlite3.Connection) -> list[Claim]:
            wanted = list(dict.fromkeys(job_ids))
            values = {"worker": worker, "ids": array(wanted), "tasks": array(tasks), "now": self._db.now(now)}
            rows = {row["id"]: row for row in connection.execute(CLAIM, values).fetchall()}
            return [claim_of(rows[job_id]) for job_id in wanted if job_id in rows]

        return await self._db.write(work)

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

        def work(connection: sqlite3.Connection) -> list[Claim]:
            claims: list[Claim] = []
            values: dict[str, Any] = {"worker": worker, "tasks": array(tasks), "now": self._db.now(now)}
            for lane in lanes:
                if len(claims) >= limit:
                    break
                before = FAR if queued_before is None else to_micros(queued_before.get(lane))
                values |= {
                    "queue": lane.queue,
                    "lane": lane.lane,
                    "limit": limit - len(claims),
                    "isolated": isolated,
                    "before": before,
                }
                rows = connection.execute(DRAW, values).fetchall()
                rows.sort(key=lambda row: (row["queued_at"], row["id"]))
                claims.extend(map(claim_of, rows))
            return claims

        # The probe is a read: an idle worker costs the disk nothing.
        if not await self._db.read(lambda connection: _any_queued(connection, lanes)):
            return []
        return await self._db.write(work)

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime | None = None) -> list[Settled]:
        """End epochs by token."""
        return await self._db.write(lambda connection: _settle(connection, settlements, self._db.now(now)))


def _any_queued(connection: sqlite3.Connection, lanes: Sequence[LaneKey]) -> bool:
    probe = "SELECT 1 FROM jobs WHERE state = 'queued' AND queue = ? AND lane = ? LIMIT 1"
    return any(connection.execute(probe, (lane.queue, lane.lane)).fetchone() for lane in lanes)


def _settle(connection: sqlite3.Connection, settlements: Sequence[Settlement], now: int) -> list[Settled]:
    runs = array([s.id, s.epoch, s.worker] for s in settlements)
    found = connection.execute(MINE, {"runs": runs}).fetchall()
    mine = {(row["id"], row["epoch"], row["worker_id"]): row for row in found}
    now_over: dict[tuple[str, int, str, Outcome], State] = {}
    rows: list[move.Row] = []
    settled: list[Settled] = []
    for settlement in settlements:
        token = (settlement.id, settlement.epoch, settlement.worker)
        row = mine.pop(token, None)
        if row is None:
            state = now_over.get((*token, settlement.outcome)) or _already(connection, settlement)
            settled.append(Settled(settlement.id, settlement.epoch, state))
            continue
        values = move.ended(
            row,
            settlement.state,
            settlement.outcome,
            now,
            charged=settlement.charged,
            reason=settlement.reason,
            result=settlement.result,
            error=settlement.error,
            delay=settlement.delay,
            progress=settlement.progress,
        )
        rows.append(values)
        state = now_over[*token, settlement.outcome] = State(values["state"])
        settled.append(
            Settled(settlement.id, settlement.epoch, state, ticket_of(values) if state is State.QUEUED else None)
        )
    move.write(connection, rows)
    return settled


def _already(connection: sqlite3.Connection, settlement: Settlement) -> State | None:
    """My own first try made it, or somebody else's token did."""
    row = connection.execute(CLOSED, (settlement.id, settlement.epoch)).fetchone()
    mine = row and row["worker"] == settlement.worker and Outcome(row["outcome"]) is settlement.outcome
    if not mine:
        return None
    # A cancel that was wished for may have changed what was asked: then the row went over with its attempt.
    return State(row["over"]) if row["over"] else settlement.state
