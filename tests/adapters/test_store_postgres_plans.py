"""No backlog makes PostgreSQL slow: what runs often looks at the rows it is about, by a partial index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.adapters.sql.postgres import claims, find, insert, rescue, submit, upkeep, workers
from taskflow.adapters.sql.postgres.database import KEPT, PLAIN, SETTINGS
from taskflow.core.job import State
from taskflow.ports.audit import Odd
from taskflow.ports.store import JobQuery
from tests.adapters.postgres_house import outside, own_schema, url_of

pytestmark = pytest.mark.adapter("postgresql")

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)
BACKLOG = """
INSERT INTO jobs (id, tenant, task, queue, lane, priority, runs_in, state, payload, attempt, max_attempts, run, epoch,
    crashes, interruptions, timeout, tags, metadata, created_at, attempt_base, snoozes, queued_at, run_at, worker_id)
SELECT 'j' || n, 'default', 'task' || n % 3, 'queue' || n % 4, 1, 5, 'async', state, '{}', 0, 5, 1, 0,
    CASE WHEN n % 1000 = 1 THEN 2 ELSE 0 END, 0, 60, '[]', '{}', now() - n * interval '1 s', 0, 0,
    CASE WHEN state = 'queued' THEN now() - n * interval '1 s' END,
    CASE WHEN state = 'scheduled' THEN now() + n * interval '1 s' END, CASE WHEN state = 'running' THEN 'w' || n % 9 END
FROM (SELECT n, CASE WHEN n % 200 = 0 THEN 'running' WHEN n % 200 = 100 THEN 'scheduled' WHEN n % 500 = 3 THEN 'failed'
    ELSE 'queued' END AS state FROM generate_series(1, 30000) AS n) AS rows"""


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A schema for all tests of this file."""
    with own_schema() as made:
        yield made


@pytest.fixture
async def store(name: str) -> AsyncIterator[PostgresStore]:
    """A store with a backlog, and statistics about it."""
    async with outside(name) as connection:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM jobs)"):
            await connection.execute(BACKLOG)
            await connection.execute("ANALYZE jobs")
    async with PostgresStore.from_url(url_of(name)) as store:
        yield store


@pytest.fixture(scope="module")
def bare() -> Iterator[str]:
    """A schema for bursts."""
    with own_schema() as made:
        yield made


@pytest.fixture
async def empty(bare: str) -> str:
    """A schema as it was on its first day: no rows, no pages, no statistics."""
    async with outside(bare) as connection:
        await connection.execute("TRUNCATE jobs, finished, attempts, workers")
    return bare


LANES = (["queue1", "queue2"], [1, 1], [None, NOW])
FAILED = JobQuery(tenant="default", limit=50, states=frozenset({State.FAILED}))


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        (claims.CLAIM, (None, "w1", ["task1"], ["j7", "j8"]), "pk_jobs"),
        (claims.DRAW, (None, "w1", ["task1"], *LANES, 50), "ix_jobs_queued"),
        (claims.DRAW_SUSPECTS, (None, "w1", ["task1"], *LANES, 1), "ix_jobs_suspect"),
        (
            claims.SETTLE,
            (NOW, ["j200"], [1], ["w2"], ["failed"], ["retrying"], [True], *([None],) * 2, [1.0], *([None],) * 2),
            "pk_jobs",
        ),
        (workers.BEAT, (None, "w1"), "ix_jobs_running"),
        (upkeep.PROMOTE, (None, 500), "ix_jobs_due"),
        (upkeep.NEXT_DUE, (None,), "ix_jobs_due"),
        (upkeep.EXPIRE, (None, 500), "ix_jobs_expires"),
        (rescue.ORPHANS, (None, "crashed", None, 500), "ix_jobs_running"),
        (rescue.LEFT_BEHIND, (None, "interrupted", None, 500), "ix_jobs_running"),
        (rescue.OVERDUE, (None, "lost", None, 500), "ix_jobs_running"),
        (rescue.PARK, (500,), "ix_jobs_task"),
        (rescue.UNPARK, (None, 500), "ix_jobs_waiting"),
        (workers.QUEUES, (), "ix_jobs_queued"),
        (submit.ONE, ("j7", "default"), "pk_jobs"),
        (*find.page(FAILED), "ix_jobs_failed"),
        (*find.page(JobQuery(tenant="default", limit=50)), "ix_jobs_list"),
        (*find.page(JobQuery(tenant="default", limit=50, after=(NOW, "j7"))), "ix_jobs_list"),
        (*find.page(JobQuery(tenant="default", limit=50, tag="a")), "ix_jobs_tags"),
    ],
)
async def test_a_partial_index_is_used(store: PostgresStore, statement: str, values: Any, index: str) -> None:
    """And no scan goes over all jobs."""
    rows = await store._db.fetch(f"EXPLAIN {statement}", *values)
    plan = "\n".join(row[0] for row in rows)
    assert index in plan, plan
    assert "Seq Scan on jobs" not in plan, plan


@pytest.mark.parametrize("kind", list(Odd))
async def test_a_check_of_the_whole_store_reads_its_newest_rows(store: PostgresStore, kind: Odd) -> None:
    """And those that it is about, whatever else there is."""
    statement = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) {store._odd(kind)}"
    plan = [row[0] for row in await store._ask(statement, late=NOW, limit=50, sample=100, oldest=100)]
    top = next(line for line in plan if "Buffers: shared" in line)
    assert int(top.partition("hit=")[2].split()[0]) < 1_000, plan
    assert not any("Seq Scan on jobs" in line for line in plan), plan


async def test_looking_for_tasks_without_a_worker_reads_no_backlog(store: PostgresStore) -> None:
    """A few index probes for each task, whatever is queued; also while all of them have one."""
    await store._db.fetch(
        """INSERT INTO workers SELECT 'w', 'h', 1, 'alive', '[]', '["task0","task1","task2"]', '{}', now(), now()
        ON CONFLICT DO NOTHING"""
    )
    rows = await store._db.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) {rescue.PARK}", 500)
    plan = [row[0] for row in rows]
    top = next(line for line in plan if "Buffers: shared" in line)
    assert int(top.partition("hit=")[2].split()[0]) < 100, plan


async def test_the_plan_is_made_for_the_values(store: PostgresStore) -> None:
    """And neither compiled nor kept: sessions are set up so."""
    [row] = await store._db.fetch("SELECT current_setting('plan_cache_mode') AS plans, current_setting('jit') AS jit")
    assert (row["plans"], row["jit"]) == ("force_custom_plan", "off")


BURST = """
INSERT INTO jobs (id, tenant, task, queue, lane, priority, runs_in, state, payload, attempt, max_attempts, run, epoch,
    crashes, interruptions, timeout, tags, metadata, created_at, attempt_base, snoozes, queued_at, started_at, worker_id,
    deadline_at, run_at, expires_at, reason)
SELECT 'j' || lpad(n::text, 5, '0'), 'default', 'task', 'queue', 1, 5, 'async', $1, '{}', 0, 5, 1, 1, $2, 0, 60, '[]',
    '{}', now(), 0, 0, CASE $1 WHEN 'queued' THEN now() END, now(), CASE $1 WHEN 'running' THEN $3 END,
    CASE $1 WHEN 'running' THEN now() END, CASE WHEN $1 IN ('scheduled','retrying') THEN now() END,
    CASE $1 WHEN 'retrying' THEN now() END, CASE $1 WHEN 'waiting' THEN 'no_worker' END
FROM generate_series(1, 8000) AS n"""
WORKERS = "INSERT INTO workers SELECT $1, 'h', 1, $2, '[]', $3, '{}', now(), now()"
FEW = [f"j{number:05}" for number in range(80, 8_001, 80)]
SETTLED = (None, FEW, [1] * 100, ["w"] * 100, ["succeeded"] * 100, ["succeeded"] * 100, [True] * 100, ["1"] * 100)
HUNDRED = f"'{{{','.join(FEW)}}}'"
OF_EACH, ONCE = 100 * 30, 8_000 * 12
"""What may be looked at: the hundred rows that it is about; or all of a burst, but not for each of the hundred."""


@pytest.mark.parametrize("statistics", ["none", "of an empty table", "of another time"])
@pytest.mark.parametrize(
    ("statement", "values", "burst", "most"),
    [
        (claims.CLAIM, (None, "w", ["task"], FEW), ("queued", 0, ""), OF_EACH),
        (claims.SETTLE, (*SETTLED, *([[None] * 100] * 4)), ("running", 0, "w"), OF_EACH),
        (claims.SUCCEED, (None, FEW, [1] * 100, "w", ["1"] * 100, []), ("running", 0, "w"), OF_EACH),
        (submit.PROGRESS, (FEW, [1] * 100, ["w"] * 100, ["{}"] * 100), ("running", 0, "w"), OF_EACH),
        (upkeep.PROMOTE, (None, 100), ("scheduled", 0, ""), ONCE),
        (upkeep.EXPIRE, (None, 100), ("retrying", 0, ""), ONCE),
        (rescue.ORPHANS, (None, "crashed", None, 100), ("running", 0, "gone"), OF_EACH),
        (rescue.LEFT_BEHIND, (None, "interrupted", None, 100), ("running", 0, "stopped"), ONCE),
        (rescue.OVERDUE, (None, "lost", None, 100), ("running", 0, "w"), ONCE),
        (rescue.MINE, (None, "interrupted", None, 100, "w"), ("running", 0, "w"), OF_EACH),
        (rescue.NAMED, (None, "interrupted", None, None, "w", FEW, [1] * 100), ("running", 0, "w"), OF_EACH),
        (rescue.PARK, (100,), ("queued", 0, ""), OF_EACH),
        (rescue.UNPARK, (None, 100), ("waiting", 0, ""), OF_EACH),
    ],
    ids=[
        "claim",
        "settle",
        "succeed",
        "progress",
        "promote",
        "expire",
        "orphans",
        "left",
        "overdue",
        "mine",
        "named",
        "park",
        "unpark",
    ],
)
async def test_a_burst_is_worked_off_row_by_row(
    empty: str, statement: str, values: Any, burst: tuple[str, int, str], most: int, statistics: str
) -> None:
    """Statistics lag behind: whatever they say, a statement over a hundred rows looks at these, or once at all others of
    their kind, and not at all others for each of them."""
    async with outside(empty) as connection, connection.transaction():
        await connection.execute(WORKERS, "w", "alive", '["task"]' if "waiting" in burst else "[]")
        await connection.execute(WORKERS, "stopped", "stopped", "[]")
        if statistics == "of an empty table":
            await connection.execute("ANALYZE jobs")
        if statistics == "of another time":
            await connection.execute(BURST, "failed", *burst[1:])
            await connection.execute("ANALYZE jobs")
            await connection.execute("DELETE FROM jobs")
        await connection.execute(BURST, *burst)
        for setting, value in SETTINGS.items():
            await connection.execute(f"SET LOCAL {setting} = '{value}'")
        [[plan]] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values)
    assert 100 <= looked_at(orjson.loads(plan)[0]["Plan"]) <= most, plan


@pytest.mark.parametrize("statistics", ["none", "of an empty table", "of a burst"])
@pytest.mark.parametrize(
    ("statement", "values", "burst"),
    [
        (claims.CLAIM, f"'w', '{{task}}', {HUNDRED}", ("queued", 0, "")),
        (claims.DRAW, "'w', '{task}', '{queue}', '{1}', '{NULL}', 100", ("queued", 0, "")),
        (claims.DRAW_SUSPECTS, "'w', '{task}', '{queue}', '{1}', '{NULL}', 100", ("queued", 2, "")),
        (claims.SUCCEED, f"{HUNDRED}, array_fill(1, '{{100}}'), 'w', {HUNDRED}, '{{}}'", ("running", 0, "w")),
    ],
    ids=["claim", "draw", "suspects", "succeed"],
)
async def test_a_plan_that_is_kept_is_right_for_every_table(
    empty: str, statement: str, values: str, burst: tuple[str, int, str], statistics: str
) -> None:
    """It was made when nobody knew of the burst, or for another size of it, and looks at its hundred rows only."""
    async with outside(empty) as connection:
        for setting, value in (SETTINGS | KEPT).items():
            await connection.execute(f"SET {setting} = '{value}'")
        await connection.execute(f"PREPARE kept AS {statement}")
        execute = f"EXECUTE kept(NULL, {values})"
        await connection.execute(WORKERS, "w", "alive", "[]")
        if statistics == "of a burst":
            await connection.execute(BURST, *burst)
            await connection.execute("ANALYZE jobs")
            await connection.execute("DELETE FROM jobs")
        if statistics == "of an empty table":
            await connection.execute("ANALYZE jobs")
        await connection.execute(execute)
        await connection.execute(BURST, *burst)
        [[plan]] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {execute}")
        [kept] = await connection.fetch(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'kept'"
        )
    assert 100 <= looked_at(orjson.loads(plan)[0]["Plan"]) <= OF_EACH, plan
    assert tuple(kept) == (2, 0)


@pytest.mark.parametrize("statistics", ["none", "of an empty table", "of a burst"])
@pytest.mark.parametrize("state", ["queued", "running", "scheduled", "retrying", "waiting", "failed"])
@pytest.mark.parametrize(
    ("statement", "values", "most"),
    [(upkeep.NEXT_DUE, "NULL", 10), (upkeep.WATCH_AND_LOOK, "NULL, '15 s'", ONCE)],
    ids=["next due", "watch"],
)
async def test_a_look_at_the_whole_table_is_as_cheap_by_a_plan_that_is_kept(
    empty: str, statement: str, values: str, most: int, state: str, statistics: str
) -> None:
    """Of a scheduler without work: it reads what it is about, once at most."""
    async with outside(empty) as connection:
        for setting, value in (SETTINGS | KEPT).items():
            await connection.execute(f"SET {setting} = '{value}'")
        await connection.execute(f"PREPARE kept AS {statement}")
        await connection.execute(WORKERS, "w", "alive", '["task"]')
        if statistics == "of a burst":
            await connection.execute(BURST, state, 0, "w")
            await connection.execute("ANALYZE jobs")
            await connection.execute("DELETE FROM jobs")
        if statistics == "of an empty table":
            await connection.execute("ANALYZE jobs")
        await connection.execute(f"EXECUTE kept({values})")
        await connection.execute(BURST, state, 0, "w")
        [[plan]] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE kept({values})")
    assert looked_at(orjson.loads(plan)[0]["Plan"]) <= most, plan


@pytest.mark.parametrize("statistics", ["none", "of an empty table"])
async def test_the_owners_of_keys_are_found_one_by_one(empty: str, statistics: str) -> None:
    """By a plan that was made when there were no keys."""
    keys = """INSERT INTO idempotency (tenant, route, key, fingerprint, job_id, created_at, expires_at)
        SELECT 'default', 'r', 'k' || n, 'f', 'j' || lpad(n::text, 5, '0'), now(), now() FROM generate_series(1, 8000) AS n"""
    hundred = ",".join(f"k{number}" for number in range(80, 8_001, 80))
    async with outside(empty) as connection:
        await connection.execute("TRUNCATE idempotency")
        if statistics == "of an empty table":
            await connection.execute("ANALYZE idempotency, jobs")
        for setting, value in (SETTINGS | KEPT).items():
            await connection.execute(f"SET {setting} = '{value}'")
        await connection.execute(f"PREPARE kept AS {insert.OWNERS}")
        execute = (
            f"EXECUTE kept(array_fill('default'::text, '{{100}}'), array_fill('r'::text, '{{100}}'), '{{{hundred}}}')"
        )
        await connection.execute(execute)
        await connection.execute(keys)
        await connection.execute(BURST, "queued", 0, "")
        [[plan]] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {execute}")
        await connection.execute("TRUNCATE idempotency")
    assert 100 <= looked_at(orjson.loads(plan)[0]["Plan"]) <= OF_EACH, plan


async def test_plans_are_kept_for_these_and_no_other(store: PostgresStore) -> None:
    """On the same connection, whatever came before."""
    modes = (
        "SELECT current_setting('plan_cache_mode') AS plan_cache_mode, current_setting('enable_sort') AS enable_sort"
    )
    for kept in (False, True, True, False):
        [row] = await store._db.fetch(modes, kept=kept)
        assert dict(row) == (KEPT if kept else PLAIN)


def looked_at(node: dict[str, Any]) -> float:
    """Rows that a node and those below it read or made, those that a filter threw away among them."""
    kinds = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")
    mine: float = sum(node.get(kind, 0) for kind in kinds) * node["Actual Loops"]
    return mine + sum(looked_at(child) for child in node.get("Plans", ()))
