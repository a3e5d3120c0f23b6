"""Questions about a whole store, in words that both databases understand. A `:word` is a parameter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from taskflow.adapters.sql.tables import LEASE, LIVE, SOUND, from_micros, jobs
from taskflow.core.job import Lane, LaneKey, RunsIn, State
from taskflow.core.limits import CRASHES_BEFORE_ISOLATION
from taskflow.ports.audit import LATE, OLDEST, SAMPLE, LiveWorker, Odd, Standing, Waiting
from taskflow.ports.store import WorkerInfo

JUDGED: Final = ", ".join(
    column.name for column in jobs.columns if column.name not in {"payload", "error", "tags", "metadata", "progress"}
)
QUEUES: Final = 100
"""Queues whose lanes are looked at."""
RUNNING: Final = "SELECT jobs.id FROM jobs WHERE jobs.state = 'running'"
NEWEST_LIVE: Final = "SELECT id, state, epoch FROM jobs ORDER BY id DESC LIMIT :sample"
NEWEST_DONE: Final = "SELECT id, state, epoch, finished_at FROM finished ORDER BY finished_at DESC LIMIT :sample"
NEWEST_FAILED: Final = (
    "SELECT id, epoch FROM jobs WHERE state = 'failed' ORDER BY tenant DESC, created_at DESC LIMIT :sample"
)
# Ids grow with time, so the last are the newest.
NEWEST_CLOSED: Final = "SELECT job_id AS id, epoch FROM attempts ORDER BY job_id DESC, epoch DESC LIMIT :sample"
NEWEST_KEYS: Final = "SELECT job_id AS id FROM idempotency ORDER BY expires_at DESC LIMIT :sample"
NOBODY: Final = """NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = newest.id)
    AND NOT EXISTS (SELECT 1 FROM finished WHERE finished.id = newest.id)"""
OPEN: Final = """epoch > 0
    AND NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.job_id = newest.id AND attempts.epoch = newest.epoch)"""
RUNS: Final = "state = 'running'"
QUEUED: Final = "state = 'queued'"
DATED: Final = "state IN ('scheduled','retrying')"
WAITING: Final = "state = 'waiting'"


def _oldest(states: str) -> str:
    """By their ids, which grow with time. Texts stay where they are: a thousand of them may be a gigabyte."""
    return f"SELECT {JUDGED} FROM jobs WHERE {states} ORDER BY id LIMIT :oldest"


ODD: Final[Mapping[Odd, str]] = {
    Odd.ORPHAN_RUN: f"{RUNNING} AND worker_id NOT IN (SELECT id FROM workers WHERE state = 'alive') AND {SOUND} LIMIT :limit",
    Odd.OVERDUE_RUN: f"{RUNNING} AND deadline_at < :late AND {SOUND} LIMIT :limit",
    Odd.DUE: f"""SELECT id FROM jobs WHERE {DATED} AND run_at < :late AND {SOUND}
        ORDER BY run_at LIMIT :limit""",
    Odd.TOKENLESS_RUN: f"""{RUNNING}
        AND (worker_id IS NULL OR started_at IS NULL OR deadline_at IS NULL OR epoch < 1) LIMIT :limit""",
    Odd.CLOSED_RUN: f"""{RUNNING}
        AND EXISTS (SELECT 1 FROM attempts WHERE job_id = jobs.id AND attempts.epoch = jobs.epoch) LIMIT :limit""",
    Odd.NOT_LIVE: f"SELECT id FROM ({NEWEST_LIVE}) AS newest WHERE state NOT IN ({LIVE}) LIMIT :limit",
    Odd.TWICE: f"""
SELECT id FROM ({NEWEST_DONE}) AS newest WHERE EXISTS (SELECT 1 FROM jobs WHERE jobs.id = newest.id)
    OR EXISTS (SELECT 1 FROM finished WHERE finished.id = newest.id AND finished.finished_at <> newest.finished_at)
UNION SELECT id FROM ({NEWEST_LIVE}) AS newest WHERE EXISTS (SELECT 1 FROM finished WHERE finished.id = newest.id)
LIMIT :limit""",
    Odd.UNCLOSED: f"""
SELECT id FROM ({NEWEST_DONE}) AS newest WHERE {OPEN}
UNION SELECT id FROM ({NEWEST_FAILED}) AS newest WHERE {OPEN}
LIMIT :limit""",
    Odd.CLOSED_TWICE: f"""
SELECT DISTINCT id FROM (SELECT id FROM ({NEWEST_CLOSED}) AS newest GROUP BY id, epoch HAVING count(*) > 1) AS found
LIMIT :limit""",
    Odd.CLOSED_BEYOND: f"""
SELECT DISTINCT id FROM ({NEWEST_CLOSED}) AS newest
WHERE EXISTS (SELECT 1 FROM jobs WHERE jobs.id = newest.id AND jobs.epoch < newest.epoch)
    OR EXISTS (SELECT 1 FROM finished WHERE finished.id = newest.id AND finished.epoch < newest.epoch)
LIMIT :limit""",
    Odd.ATTEMPT_OF_NOBODY: f"SELECT DISTINCT id FROM ({NEWEST_CLOSED}) AS newest WHERE {NOBODY} LIMIT :limit",
    Odd.KEY_OF_NOBODY: f"SELECT DISTINCT id FROM ({NEWEST_KEYS}) AS newest WHERE {NOBODY} LIMIT :limit",
    Odd.UNSOUND: " UNION ALL ".join(
        f"SELECT id FROM ({_oldest(states)}) AS oldest WHERE NOT ({SOUND})" for states in (RUNS, QUEUED, DATED, WAITING)
    )
    + " LIMIT :limit",
    Odd.UNREADABLE: f"SELECT id FROM ({_oldest(QUEUED)}) AS oldest WHERE {SOUND} AND NOT ({{runnable}}) LIMIT :limit",
    Odd.UNDRAWABLE: f"""
SELECT id FROM ({_oldest(QUEUED)}) AS oldest
WHERE queued_at IS NULL OR queued_at >= {{endless}} OR queue NOT IN (SELECT name FROM queues) LIMIT :limit""",
    Odd.UNDATED: f"SELECT id FROM jobs WHERE {DATED} AND (run_at IS NULL OR run_at >= {{endless}}) LIMIT :limit",
    Odd.UNPARKABLE: f"SELECT id FROM ({_oldest(WAITING)}) AS oldest WHERE coalesce(reason, '') <> 'no_worker' LIMIT :limit",
}
ALIVE: Final = f"""
SELECT id, host, pid, queues, tasks, slots, {LEASE} AS lease, heartbeat_at FROM workers WHERE state = 'alive' ORDER BY id"""
BUSY: Final = "SELECT worker_id, runs_in, count(*) AS n FROM jobs WHERE state = 'running' GROUP BY worker_id, runs_in"
SWEPT: Final = "SELECT last_sweep_at FROM upkeep WHERE id = 1"
UNRUNNABLE: Final = """
SELECT task, count(*) AS n
FROM (SELECT task FROM jobs WHERE state = 'waiting' AND reason = 'no_worker' LIMIT 10000) AS found
GROUP BY task ORDER BY task"""
OPEN_QUEUES: Final = "SELECT DISTINCT name FROM queues WHERE NOT paused ORDER BY name LIMIT :limit"
FRONT: Final = f"""
SELECT id, task, runs_in, queued_at FROM jobs
WHERE state = 'queued' AND queue = :queue AND lane = :lane AND crashes < {CRASHES_BEFORE_ISOLATION}
    AND (expires_at IS NULL OR expires_at > :now) AND {{runnable}}
    AND queued_at BETWEEN {{first}} AND :now
ORDER BY queued_at, id LIMIT :limit"""
# Many rows name one object: the index is asked for one after the other.
LOG_OBJECTS: Final = """
WITH RECURSIVE names AS (
    SELECT max(object) AS object FROM log_segments {before}
    UNION ALL
    SELECT (SELECT max(log_segments.object) FROM log_segments WHERE log_segments.object < names.object)
    FROM names WHERE names.object IS NOT NULL)
SELECT object FROM names WHERE object IS NOT NULL LIMIT :limit"""
FILES: Final = """
SELECT job_id, name, object FROM artifacts {before}
ORDER BY job_id DESC, name DESC LIMIT :limit"""


class AuditPart(ABC):
    """The part of a store that answers whoever checks it."""

    _among: str
    """How a database asks whether something is one of many; `{}` is the parameter."""
    _runnable: str
    """What a claim demands of a row."""
    _first: str
    """The earliest instant that can be read."""
    _endless: str
    """One that never comes."""

    @abstractmethod
    async def _ask(self, statement: str, **values: Any) -> Sequence[Any]:
        """Rows by column; instants as the database has them."""

    @abstractmethod
    async def _moment(self, now: datetime | None) -> datetime:
        """The given instant, else the store's clock."""

    async def standing(self, *, now: datetime | None = None) -> Standing:
        """Clock, sweeps and workers."""
        alive, busy, swept = await self._ask(ALIVE), await self._ask(BUSY), await self._ask(SWEPT)
        waiting = await self._ask(UNRUNNABLE)
        moment = await self._moment(now)
        running: dict[str, Counter[RunsIn]] = defaultdict(Counter)
        for row in busy:
            running[row["worker_id"]][RunsIn(row["runs_in"])] = row["n"]
        return Standing(
            now=moment,
            swept=_since(swept[0]["last_sweep_at"], moment) if swept else None,
            workers=[
                LiveWorker(_worker(row), _since(row["heartbeat_at"], moment), running[row["id"]]) for row in alive
            ],
            unrunnable={row["task"]: row["n"] for row in waiting},
        )

    async def odd(self, kind: Odd, limit: int, *, now: datetime | None = None) -> list[str]:
        """Ids of jobs that are odd in this way."""
        late = await self._moment(now) - timedelta(seconds=LATE)
        found = await self._ask(self._odd(kind), late=late, limit=limit, sample=SAMPLE, oldest=OLDEST)
        return [row["id"] for row in found]

    def _odd(self, kind: Odd) -> str:
        return ODD[kind].format(runnable=self._runnable, endless=self._endless)

    async def fronts(self, limit: int, *, now: datetime | None = None) -> dict[LaneKey, list[Waiting]]:
        """The oldest queued jobs of each lane that a draw would take."""
        moment = await self._moment(now)
        front = FRONT.format(runnable=self._runnable, first=self._first)
        found = {}
        for queue in await self._ask(OPEN_QUEUES, limit=QUEUES):
            for lane in Lane:
                key = LaneKey(queue["name"], lane)
                rows = await self._ask(front, queue=key.queue, lane=int(lane), now=moment, limit=limit)
                found[key] = [
                    Waiting(row["id"], row["task"], RunsIn(row["runs_in"]), _since(row["queued_at"], moment))
                    for row in rows
                ]
        return {key: rows for key, rows in found.items() if rows}

    async def newest(self, limit: int) -> list[tuple[str, State, int]]:
        """Those that finished last, and the youngest live ones."""
        rows = [*await self._ask(NEWEST_DONE, sample=limit), *await self._ask(NEWEST_LIVE, sample=limit)]
        return [(row["id"], State(row["state"]), row["epoch"]) for row in rows]

    async def log_objects(self, limit: int, before: str | None = None) -> list[str]:
        """Objects that hold logs: their names begin with the day."""
        statement = LOG_OBJECTS.format(before="WHERE object < :before" if before else "")
        return [row["object"] for row in await self._ask(statement, before=before, limit=limit)]

    async def file_objects(
        self, limit: int, before: tuple[str, str] | None = None
    ) -> list[tuple[tuple[str, str], str]]:
        """Files that handlers kept."""
        statement = FILES.format(before="WHERE (job_id, name) < (:job, :name)" if before else "")
        job_id, name = before or (None, None)
        rows = await self._ask(statement, job=job_id, name=name, limit=limit)
        return [((row["job_id"], row["name"]), row["object"]) for row in rows]

    async def named(self, objects: Sequence[str], job_ids: Sequence[str]) -> set[str]:
        """Those that some row names."""
        keys, jobs = self._among.format(":keys"), self._among.format(":jobs")
        statement = f"""
SELECT DISTINCT object FROM log_segments WHERE object {keys}
UNION SELECT object FROM artifacts WHERE job_id {jobs} AND object {keys}"""
        rows = await self._ask(statement, keys=list(objects), jobs=list(job_ids))
        return {row["object"] for row in rows}


def _since(value: Any, moment: datetime) -> float:
    instant: Any = from_micros(value) if isinstance(value, int) else value
    return float((moment - instant).total_seconds())


def _worker(row: Any) -> WorkerInfo:
    lists = {name: orjson.loads(row[name]) for name in ("queues", "tasks", "slots")}
    return WorkerInfo(id=row["id"], host=row["host"], pid=row["pid"], lease=row["lease"], **lists)
