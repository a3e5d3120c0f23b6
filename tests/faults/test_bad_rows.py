"""One bad row among many, that a program sent or a hand spoilt: the others go through, only the guilty one fails or stays,
and the loops go on."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskflow.adapters.sql import PostgresStore, SqliteStore, schema
from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.core.job import NewJob, Outcome, State, Ticket
from taskflow.core.lifecycle import Ending
from taskflow.core.limits import LEASE_SECONDS_MAX
from taskflow.core.retry import RetryPolicy
from taskflow.flow.settle import Settler
from taskflow.flow.submit import Submitter
from taskflow.flow.upkeep import Promoter
from taskflow.ports.store import StateStore, WorkerInfo
from taskflow.testing.store_facts import GAP, LANE, LEASE, T0, at, job, shown
from tests.adapters.postgres_house import emptied, outside, own_schema, url_of
from tests.flow.fakes import Followers
from tests.support import until

MANY = 200
Spoil = Callable[..., Awaitable[None]]
SPOILT: list[dict[str, Any]] = [
    {"priority": 99},
    {"lane": 7},
    {"runs_in": "nowhere"},
    {"max_attempts": 0},
    {"attempt": (1 << 31) - 1},
    {"state": "unheard of"},
]
"""What no TaskFlow writes, and its tables refuse while their checks are on."""
MOST = "the most that the column holds"
BEFORE_CHRIST = "'0044-03-15 BC'::timestamptz"
CLOSED, UNDATED, NOBODYS = {"epoch": 1}, {"started_at": None}, {"worker_id": None}
SPOILT_RUNS: list[dict[str, Any]] = [
    CLOSED,
    UNDATED,
    NOBODYS,
    {"attempt": 0},
    {"crashes": MOST},
    {"interruptions": MOST},
]
"""What no TaskFlow writes into a row that runs for the second time; the job can be saved all the same."""


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A schema for all tests of this file."""
    with own_schema() as made:
        yield made


@pytest.fixture(
    params=[pytest.param(each, marks=pytest.mark.adapter(each)) for each in ("postgresql", "sqlite")],
)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[StateStore, Spoil]]:
    """A store, and a hand that writes past its checks; they are on again afterwards."""
    if request.param == "postgresql":
        name: str = request.getfixturevalue("name")
        await emptied(name)
        async with PostgresStore.from_url(url_of(name)) as store:
            yield store, lambda job_id, **values: on_postgres(name, job_id, values)
        return
    file = tmp_path / "t.db"
    schema.upgrade(f"sqlite:///{file}")
    async with SqliteStore(file) as store:
        yield store, lambda job_id, **values: on_sqlite(file, job_id, values)


async def on_postgres(name: str, job_id: str, values: dict[str, Any]) -> None:
    """Write past triggers and checks."""
    async with outside(name) as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        checks = await connection.fetch(
            "SELECT conname, pg_get_constraintdef(oid) AS rule FROM pg_constraint "
            "WHERE conrelid = 'jobs'::regclass AND contype = 'c'"
        )
        for check in checks:
            await connection.execute(f"ALTER TABLE jobs DROP CONSTRAINT {check['conname']}")
        literal = [f"{column} = {value}" for column, value in values.items() if value == BEFORE_CHRIST]
        values = {column: value for column, value in values.items() if value != BEFORE_CHRIST}
        sets = ", ".join([f"{column} = ${number}" for number, column in enumerate(values, 2)] + literal)
        await connection.execute(f"UPDATE jobs SET {sets} WHERE id = $1", job_id, *values.values())
        for check in checks:
            rule = check["rule"].removesuffix(" NOT VALID")
            await connection.execute(f"ALTER TABLE jobs ADD CONSTRAINT {check['conname']} {rule} NOT VALID")


async def on_sqlite(file: Path, job_id: str, values: dict[str, Any]) -> None:
    """Write past triggers and checks."""

    def write() -> None:
        connection = sqlite3.connect(file, isolation_level=None)
        [guard] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs_lifecycle'").fetchone()
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DROP TRIGGER jobs_lifecycle")
        sets = ", ".join(f"{column} = ?" for column in values)
        connection.execute(f"UPDATE jobs SET {sets} WHERE id = ?", (*values.values(), job_id))
        connection.execute(guard)
        connection.execute("COMMIT")
        connection.close()

    await asyncio.to_thread(write)


class Tickets(list[Ticket]):
    """Whoever publishes, as far as who commits is concerned."""

    def offer(self, tickets: Any) -> None:
        self.extend(tickets)

    @property
    def ids(self) -> set[str]:
        return {ticket.job_id for ticket in self}


def settler_of(store: StateStore, tickets: Tickets) -> Settler:
    """One that nothing is fatal to."""
    return Settler(
        store,
        Followers(),
        tickets,  # type: ignore[arg-type]
        policy=lambda _: RetryPolicy(),
        last_word=lambda *_: None,
        fatal=pytest.fail,
    )


async def worker(store: StateStore, name: str = "w", *, now: datetime | None = None) -> str:
    """One that lives now."""
    await store.register(WorkerInfo(id=name, host="h", pid=1, queues=(), tasks=("t",), slots={}, lease=30.0), now=now)
    return name


async def states(store: StateStore, jobs: list[NewJob]) -> set[State]:
    """What became of jobs."""
    found = [await store.get("default", one.id) for one in jobs]
    return {one.state for one in found if one}


async def spoil_first(spoil: Spoil, jobs: list[NewJob], **more: Any) -> list[NewJob]:
    """Spoil one row in each way; the jobs that are left as they were."""
    for one, values in zip(jobs, SPOILT, strict=False):
        await spoil(one.id, **(more | values))
    return jobs[len(SPOILT) :]


async def test_bad_submits_fail_alone(house: tuple[StateStore, Spoil]) -> None:
    """Whoever shares their commit is stored."""
    store, _ = house
    tickets = Tickets()
    good = [job() for _ in range(MANY)]
    bad: list[dict[str, Any]] = [
        {"payload": '"\ud800"'},
        {"metadata": '"\ud800"'},
        {"max_attempts": 1 << 70},
        {"priority": 99},
    ]
    if not isinstance(store, SqliteStore):
        # A NUL, and a name that is too long for an index: SQLite keeps both.
        bad += [{"payload": '"\0"'}, {"task": "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(6_000))}]
    submitter = Submitter(store, SimpleNamespace(offer=tickets.offer))  # type: ignore[arg-type]
    stored = await submitter.submit_many([*good[:77], *(job(**values) for values in bad), *good[77:]])
    refused = [index for index, one in enumerate(stored) if isinstance(one, BaseException)]
    assert refused == list(range(77, 77 + len(bad)))
    assert all(isinstance(stored[index], DataRejected) for index in refused)
    assert tickets.ids == {one.id for one in good}
    assert (await submitter.submit(job())).created


async def test_a_bad_result_fails_alone(house: tuple[StateStore, Spoil]) -> None:
    """It settles as a failure that says so; its neighbours succeed."""
    store, _ = house
    jobs = [job() for _ in range(MANY)]
    await store.insert(jobs)
    claims = await store.claim(await worker(store), [one.id for one in jobs], ["t"])
    settler = settler_of(store, Tickets())
    values = {jobs[77].id: '"\ud800"'} | ({} if isinstance(store, SqliteStore) else {jobs[78].id: '"\0"'})
    for claim in claims:
        settler.settle(claim, Ending(outcome=Outcome.SUCCEEDED, result=values.get(claim.id, "1")))
    async with asyncio.timeout(20):
        await settler.drain()
    assert await states(store, [one for one in jobs if one.id not in values]) == {State.SUCCEEDED}
    for job_id in values:
        guilty = await store.get("default", job_id)
        assert guilty is not None
        assert (guilty.state, guilty.reason, guilty.attempt) == (State.FAILED, "unstorable", 1)


async def test_the_end_of_a_spoilt_row_holds_up_no_other(
    house: tuple[StateStore, Spoil], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the database refuses whatever is written there, that is said once, and the worker goes on."""
    store, spoil = house
    jobs = [job() for _ in range(MANY)]
    await store.insert(jobs)
    claims = await store.claim(await worker(store), [one.id for one in jobs], ["t"])
    sound = await spoil_first(spoil, jobs)
    settler = settler_of(store, Tickets())
    for claim in claims:
        # A retry stays in the table, and so meets its checks.
        settler.settle(claim, Ending(outcome=Outcome.FAILED, after=900))
    async with asyncio.timeout(20):
        await settler.drain()
    assert await states(store, sound) == {State.RETRYING}
    refused = [record.message for record in caplog.records if "whatever its end" in record.message]
    assert len(refused) == len(set(refused)) >= 1


async def is_due(store: StateStore, job_id: str) -> bool:
    """By the store's own clock."""
    found = await store.get("default", job_id)
    return found is not None and found.run_at is not None and await store.age(found.run_at) > 0


async def test_spoilt_rows_are_not_promoted_and_hold_up_no_other(house: tuple[StateStore, Spoil]) -> None:
    """Though they are the first that are due; nor does the promoter look again and again for their sake."""
    store, spoil = house
    jobs = [job(delay=0.05) for _ in range(MANY)]
    await store.insert([*jobs, job(delay=900)])
    sound = await spoil_first(spoil, jobs, run_at=a_day_ago(store))
    due: bool = await until(lambda: is_due(store, jobs[-1].id))
    assert due
    tickets = Tickets()
    promoter = Promoter(store, SimpleNamespace(offer=tickets.offer))  # type: ignore[arg-type]
    assert await promoter.once() > 0.5
    assert tickets.ids == {one.id for one in sound}


async def test_a_date_without_end_stops_no_promotion(house: tuple[StateStore, Spoil]) -> None:
    """Neither beside others nor alone."""
    store, spoil = house
    jobs = [job(delay=0.05) for _ in range(3)]
    await store.insert(jobs)
    endless = "infinity" if isinstance(store, SqliteStore) else datetime.max.replace(tzinfo=UTC)
    await spoil(jobs[0].id, run_at=endless)
    due: bool = await until(lambda: is_due(store, jobs[-1].id))
    assert due
    promoted = await store.promote()
    assert {ticket.job_id for ticket in promoted.tickets} == {one.id for one in jobs[1:]}
    again = await store.promote()
    assert (list(again.tickets), again.next_due) == ([], None)


@pytest.mark.parametrize("ticket", [True, False], ids=["claim", "draw"])
async def test_spoilt_rows_are_not_claimed_and_hold_up_no_other(house: tuple[StateStore, Spoil], ticket: bool) -> None:
    """By ticket and from the table, where they are the oldest."""
    store, spoil = house
    jobs = [job() for _ in range(20)]
    await store.insert(jobs)
    me = await worker(store)
    sound = await spoil_first(spoil, jobs, queued_at=a_day_ago(store))
    ids = [one.id for one in jobs]
    claims = await (store.claim(me, ids, ["t"]) if ticket else store.draw(me, [LANE], ["t"], 100))
    assert {claim.id for claim in claims} == {one.id for one in sound}


def unreadable(store: StateStore) -> list[dict[str, Any]]:
    """What no claim can read, or count with."""
    if isinstance(store, SqliteStore):
        texts = ("created_at", "timeout", "attempt_base", "run", "crashes", "interruptions", "snoozes")
        return [
            *({column: "x"} for column in texts),
            {"created_at": -(1 << 62)},
            {"created_at": 1 << 62},
            {"lane": 0.5},
        ]
    # The driver has no value for such an instant: the statement says it.
    return [{"timeout": float("nan")}, {"attempt_base": -(1 << 31)}, {"snoozes": -1}, {"created_at": BEFORE_CHRIST}]


@pytest.mark.parametrize("way", ["ticket", "draw", "draw of suspects"])
async def test_rows_that_cannot_be_read_are_not_claimed_and_hold_up_no_other(
    house: tuple[StateStore, Spoil], way: str
) -> None:
    """A claim that failed once it is written would leave all its rows to nobody."""
    store, spoil = house
    ways = unreadable(store)
    bad, good = [job() for _ in ways], [job() for _ in range(5)]
    await store.insert([*bad, *good])
    me = await worker(store)
    for one, values in zip(bad, ways, strict=True):
        await spoil(one.id, **({"crashes": 2} if way == "draw of suspects" else {}) | values)
    if way == "draw of suspects":
        for one in good:
            await spoil(one.id, crashes=2)
    if way == "ticket":
        claims = await store.claim(me, [one.id for one in [*bad, *good]], ["t"])
    else:
        claims = await store.draw(me, [LANE], ["t"], 100, isolated=way != "draw")
    assert {claim.id for claim in claims} == {one.id for one in good}
    assert {held.job_id for held in (await store.beat(me)).held} == {one.id for one in good}


async def test_runs_that_cannot_be_read_hold_up_neither_beat_nor_settlement(house: tuple[StateStore, Spoil]) -> None:
    """Their worker lives on, and others end."""
    store, spoil = house
    sqlite = isinstance(store, SqliteStore)
    endless: Any = "x" if sqlite else datetime.max.replace(tzinfo=UTC)
    most: Any = "x" if sqlite else (1 << 31) - 1
    ways: list[dict[str, Any]] = [
        {"started_at": endless},
        {"attempt": most},
        {"snoozes": most},
        {"created_at": endless},
    ]
    jobs = [job() for _ in range(len(ways) + 1)]
    await store.insert(jobs)
    me = await worker(store)
    claims = await store.claim(me, [one.id for one in jobs], ["t"])
    for one, values in zip(jobs, ways, strict=False):
        await spoil(one.id, **values)
    assert len((await store.beat(me)).held) == len(jobs)
    settler = settler_of(store, Tickets())
    for claim in claims:
        settler.settle(claim, Ending(outcome=Outcome.SUCCEEDED, result="1"))
    async with asyncio.timeout(20):
        await settler.drain()
    assert (await shown(store, jobs[-1].id)).state is State.SUCCEEDED


async def test_a_timeout_that_is_no_time_holds_up_no_other(house: tuple[StateStore, Spoil]) -> None:
    """It may even run."""
    store, spoil = house
    jobs = [job() for _ in range(6)]
    await store.insert(jobs)
    me = await worker(store)
    no_times = [float("inf"), -1e300] + ([] if isinstance(store, SqliteStore) else [float("nan")])
    for one, timeout in zip(jobs, no_times, strict=False):
        await spoil(one.id, timeout=timeout)
    claims = await store.draw(me, [LANE], ["t"], 100)
    assert {claim.id for claim in claims} >= {one.id for one in jobs[3:]}


async def test_spoilt_rows_hold_up_no_sweep(house: tuple[StateStore, Spoil]) -> None:
    """Of rows that a worker left, that expired, and that wait for a worker; and a worker that comes is registered."""
    store, spoil = house
    left, parked, expired = (
        [job(**changes) for _ in range(10)]
        for changes in ({}, {"task": "u"}, {"expires_at": datetime(2020, 1, 1, tzinfo=UTC), "delay": 900})
    )
    await store.insert([*left, *parked, *expired])
    me = await worker(store)
    await store.claim(me, [one.id for one in left], ["t"])
    sound_left, sound_parked, sound_expired = [await spoil_first(spoil, jobs) for jobs in (left, parked, expired)]
    await store.sweep(GAP)
    assert await states(store, sound_expired) == {State.EXPIRED}
    assert await states(store, sound_parked) == {State.WAITING}
    await spoil_first(spoil, parked, state="waiting", reason="no_worker")
    assert {ticket.job_id for ticket in await store.stop(me)} == {one.id for one in sound_left}
    await store.sweep(GAP)
    assert await states(store, sound_left) == {State.WAITING}
    tickets = await store.register(
        WorkerInfo(id="v", host="h", pid=1, queues=(), tasks=("t", "u"), slots={}, lease=30.0)
    )
    assert {ticket.job_id for ticket in tickets} == {one.id for one in [*sound_left, *sound_parked]}


async def spoilt_runs(store: StateStore, spoil: Spoil, me: str) -> list[NewJob]:
    """Jobs that a worker runs for the second time, one of them spoilt in each way; the last one is sound."""
    jobs = [job() for _ in range(len(SPOILT_RUNS) + 1)]
    ids = [one.id for one in jobs]
    await store.insert(jobs, now=T0)
    await store.claim(me, ids, ["t"], now=T0)
    await store.release(me, [(job_id, 1) for job_id in ids], now=T0)
    assert {claim.epoch for claim in await store.claim(me, ids, ["t"], now=T0)} == {2}
    most = (1 << (63 if isinstance(store, SqliteStore) else 31)) - 1
    for job_id, values in zip(ids, SPOILT_RUNS, strict=False):
        await spoil(job_id, **{column: most if value == MOST else value for column, value in values.items()})
    return jobs


@pytest.mark.parametrize("lease", [None, math.nan, "soon", "-1"])
async def test_a_worker_whose_lease_is_spoilt_is_neither_robbed_nor_immortal(
    house: tuple[StateStore, Spoil], lease: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Nobody knows how long it goes on, but none goes on for longer than the longest lease; others have theirs."""
    store, _ = house
    me, other = await worker(store, "me", now=T0), await worker(store, "other", now=T0)
    new = job(timeout=10_000.0)
    await store.insert([new], now=T0)
    await store.claim(me, [new.id], ["t"], now=T0)
    if isinstance(store, SqliteStore):
        with contextlib.closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
            # A hand may change the table itself.
            connection.execute("ALTER TABLE workers RENAME COLUMN lease TO had")
            connection.execute("ALTER TABLE workers ADD COLUMN lease")
            connection.execute("UPDATE workers SET lease = CASE id WHEN 'me' THEN ? ELSE had END", (lease,))
    else:
        value = -1.0 if lease == "-1" else math.inf if lease == "soon" else lease
        async with outside(request.getfixturevalue("name")) as by_hand:
            await by_hand.execute("ALTER TABLE workers ALTER lease DROP NOT NULL")
            await by_hand.execute("UPDATE workers SET lease = $1 WHERE id = 'me'", value)
    assert {info.id: info.lease for info in await store.workers()} == {me: LEASE_SECONDS_MAX, other: LEASE}
    died: dict[str, int] = {}
    for moment in (0, 31, 3_600, 3_601):
        died |= dict.fromkeys((await store.sweep(LEASE_SECONDS_MAX, now=at(moment))).dead_workers, moment)
    assert died == {other: 31, me: 3_601}
    assert (await shown(store, new.id)).state is not State.RUNNING


@pytest.mark.parametrize("way", ["release", "stop", "sweep"])
async def test_spoilt_runs_are_given_back_too(house: tuple[StateStore, Spoil], way: str) -> None:
    """By their worker, at its end and after its death. A closed epoch keeps its record; one of which nobody knows who began
    it, or when, gets none. A row that names no worker is the sweep's."""
    store, spoil = house
    me, other = await worker(store, "me", now=T0), await worker(store, "other", now=T0)
    jobs = await spoilt_runs(store, spoil, me)
    held = (await store.beat(me, now=at(1))).held
    assert {one.age for one in held} == {1.0}
    if way == "release":
        await store.release(me, [(one.job_id, one.epoch) for one in held], now=at(1))
    elif way == "stop":
        await store.stop(me, now=at(1))
    else:
        for moment in range(0, round(LEASE) + 6, 5):
            await store.beat(other, now=at(moment))
            await store.sweep(GAP, now=at(moment))
    outcome, counter = (Outcome.CRASHED, "crashes") if way == "sweep" else (Outcome.INTERRUPTED, "interruptions")
    for one, values in zip(jobs, [*SPOILT_RUNS, {}], strict=True):
        found = await shown(store, one.id)
        if values is NOBODYS and way != "sweep":
            assert found.state is State.RUNNING
            continue
        assert (found.state, found.attempt) == (State.FAILED if values == {counter: MOST} else State.QUEUED, 0), values
        recorded = [(1, Outcome.INTERRUPTED)] + ([(2, outcome)] if values not in (CLOSED, UNDATED, NOBODYS) else [])
        assert [(record.epoch, record.outcome) for record in found.attempts] == recorded, values


async def test_a_condition_that_a_sweep_cannot_meet_skips_no_other(
    house: tuple[StateStore, Spoil], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """It says so in the end, and has done what it could."""
    store, _ = house
    me = await worker(store, now=T0)
    left, late, unlisted = job(), job(delay=900, expires_at=at(LEASE + 5)), job(task="u")
    await store.insert([left, late], now=T0)
    await store.claim(me, [left.id], ["t"], now=T0)

    async def rename(old: str, new: str) -> None:
        statement = f"ALTER TABLE {old} RENAME TO {new}"
        if isinstance(store, SqliteStore):
            with contextlib.closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
                connection.execute(statement)
            return
        async with outside(request.getfixturevalue("name")) as connection:
            await connection.execute(statement)

    for moment in range(0, round(LEASE) + 1, 5):
        await store.sweep(GAP, now=at(moment))
    await store.insert([unlisted], now=T0)
    # Without it no run can be closed.
    await rename("attempts", "away")
    try:
        with pytest.raises(StoreUnavailable, match="attempts"):
            await store.sweep(GAP, now=at(LEASE + 5))
    finally:
        await rename("away", "attempts")
    assert [(await shown(store, one.id)).state for one in (left, late, unlisted)] == [
        State.RUNNING,
        State.EXPIRED,
        State.WAITING,
    ]
    assert not (await store.beat(me, now=at(LEASE + 6))).alive
    assert (await store.sweep(GAP, now=at(LEASE + 6))).rescued == 1


def a_day_ago(store: StateStore) -> Any:
    """As a hand would write it there."""
    now = datetime.now(UTC).timestamp() - 86_400
    return round(now * 1e6) if isinstance(store, SqliteStore) else datetime.fromtimestamp(now, UTC)
