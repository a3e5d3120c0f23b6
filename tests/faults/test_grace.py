"""Silence that is nobody's death: the database away, nobody who sweeps, a suspended machine, a clock that is set. Nobody
is declared dead before everybody had a whole lease to be heard. `TASKFLOW_TEST_FULL=1`: with the default lease."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.acceptance.cluster import Cluster
from tests.effects import recorded
from tests.faults import witness
from tests.figures import Say
from tests.support import FULL, until_sync
from tests.throwaway import ThrowawayPostgres, own

four = pytest.mark.adapter("postgresql", "rabbitmq", "redis", "s3")
LEASE, JOBS = (30.0, 200) if FULL else (4.0, 20)
SHORT, LONG = (15.0, 90.0) if FULL else (0.8, 5.0)
"""Seconds that the database is away: less than lets a worker stop its runs, and more than a lease."""
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


class ClockedPostgres(ThrowawayPostgres):
    """One whose clock can be set, where libfaketime is installed."""

    def environment(self) -> dict[str, str]:
        if FAKETIME is None:
            return super().environment()
        self.set_clock(0)
        return super().environment() | {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.directory / "clock"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, ahead: float) -> None:
        """So many seconds ahead of everybody else's from now on."""
        fresh = self.directory / "clock.new"
        fresh.write_text(f"{ahead:+.0f}")
        fresh.chmod(0o644)
        fresh.rename(self.directory / "clock")


@contextmanager
def on_own(postgres: ThrowawayPostgres, directory: Path) -> Iterator[Cluster]:
    """Processes on a PostgreSQL that may be stopped."""
    cluster = Cluster(
        directory,
        TASKFLOW_CONSUMER_LEASE=f"{LEASE:g}",
        TASKFLOW_CONSUMER_SLOTS=str(JOBS),
        **witness.SETTINGS,
    )
    cluster.database = postgres.url
    cluster.environment["TASKFLOW_STORE_URL"] = f"{postgres.url}?schema={cluster.namespace}"
    with cluster:
        yield cluster


@pytest.fixture(scope="module")
def postgres() -> Iterator[ClockedPostgres]:
    """A database of these tests' own."""
    with own(ClockedPostgres()) as server:
        yield server


@pytest.fixture(scope="module")
def house(postgres: ClockedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Who sweeps, and who works."""
    with on_own(postgres, tmp_path_factory.mktemp("grace")) as cluster:
        for roles in ("api,scheduler", "consumer"):
            cluster.node(roles)
        yield cluster.ready()


@pytest.fixture
def cluster(house: Cluster) -> Iterator[Cluster]:
    """The same, with no job of another test; nobody was declared dead at its end."""
    yield house
    assert "is declared dead" not in house.output
    for table in ("jobs", "finished", "attempts"):
        house.sql(f'DELETE FROM "{house.namespace}".{table}')


def back(cluster: Cluster, postgres: ClockedPostgres) -> None:
    """Start the database, and wait until it is."""
    postgres.start()

    def answers() -> bool:
        try:
            return bool(cluster.sql("SELECT 1"))
        except (asyncpg.CannotConnectNowError, OSError):
            return False

    until_sync(answers, 30)


def upkeep(cluster: Cluster) -> Any:
    """The row that says when the last sweep was, and whether there is grace; by the database's clock."""
    [row] = cluster.sql(
        f"""SELECT *, clock_timestamp() < watched_since + interval '{LEASE:g} s' AS in_grace, clock_timestamp() AS now
        FROM {cluster.namespace}.upkeep"""
    )
    return row


def in_grace(cluster: Cluster) -> bool:
    """Whether nobody may be declared dead now."""
    return bool(upkeep(cluster)["in_grace"])


def no_grace(cluster: Cluster) -> None:
    """Wait until a worker that falls silent would be dead after a lease."""
    until_sync(lambda: not in_grace(cluster), 2 * LEASE + 10)


def silence(cluster: Cluster) -> float:
    """Seconds since the last beat of the only worker, which must be alive as the database has it."""
    [row] = cluster.sql(
        f"""SELECT extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS silent
        FROM {cluster.namespace}.workers WHERE state = 'alive'"""
    )
    return float(row["silent"])


def witnessed(cluster: Cluster, seconds: float) -> Path:
    """Jobs that run for a while and say what becomes of them; where they do. They have begun."""
    path = cluster.directory / f"witness{time.monotonic_ns()}"
    payloads = [{"path": str(path), "key": f"k{number}", "seconds": seconds} for number in range(JOBS)]
    body = {"jobs": [{"task": "witness.sleep", "payload": payload} for payload in payloads]}
    assert cluster.http.post("/jobs/batch", json=body).status_code == 207
    until_sync(lambda: told(path)["began"] == JOBS, 30)
    return path


def told(path: Path) -> Counter[str]:
    """What handlers wrote, counted."""
    return Counter(line.what for line in recorded(path))


def outcomes(cluster: Cluster) -> Counter[str]:
    """How epochs ended."""
    rows = cluster.sql(f'SELECT outcome FROM "{cluster.namespace}".attempts')
    return Counter(row["outcome"] for row in rows)


def all_succeeded(cluster: Cluster) -> bool:
    """Whether every job has."""
    return cluster.count("state = 'succeeded'") == JOBS


@four
def test_while_the_database_is_away_runs_go_on_and_after_a_lease_are_interrupted(
    cluster: Cluster, postgres: ClockedPostgres, say: Say
) -> None:
    """Away for less than the lease: nobody is fenced, nobody is taken over. For longer: workers stop their runs by
    themselves, for they cannot know; what they stopped runs again, uncharged."""
    path = witnessed(cluster, 1_000.0)
    postgres.kill()
    gone = time.monotonic()
    until_sync(lambda: time.monotonic() - gone > SHORT, SHORT + 5)
    back(cluster, postgres)
    away = time.monotonic() - gone
    heard = f"SELECT 1 FROM {cluster.namespace}.workers WHERE heartbeat_at > pg_postmaster_start_time()"
    until_sync(lambda: cluster.sql(heard), 30)
    assert told(path) == {"began": JOBS}
    assert outcomes(cluster).total() == 0
    say(f"PostgreSQL away for {away:.1f} s under {JOBS} jobs, lease {LEASE:g} s", "0 fenced, 0 taken over")
    until_sync(lambda: silence(cluster) < LEASE / 8, 30)
    postgres.kill()
    gone = time.monotonic()
    until_sync(lambda: told(path)["stopped"] == JOBS, LEASE + 10)
    fenced = time.monotonic() - gone
    until_sync(lambda: time.monotonic() - gone > LONG, LONG + 5)
    back(cluster, postgres)
    away = time.monotonic() - gone
    until_sync(lambda: all_succeeded(cluster), 60)
    say(
        f"PostgreSQL away for {away:.1f} s under {JOBS} jobs, lease {LEASE:g} s",
        f"all fenced after {fenced:.1f} s, {outcomes(cluster)['lost']} back as interruptions, 0 taken over",
    )
    assert told(path) == {"began": 2 * JOBS, "stopped": JOBS, "done": JOBS}
    assert outcomes(cluster) == {"lost": JOBS, "succeeded": JOBS}
    assert cluster.count("interruptions = 1 AND crashes = 0 AND attempt = 1") == JOBS


@four
def test_a_suspend_of_everybody_kills_nobody(cluster: Cluster) -> None:
    """Even where who sweeps wakes first: it finds a worker that was silent for longer than a lease, and lets it be."""
    no_grace(cluster)
    path = witnessed(cluster, 2.0)
    sweeper, worker = cluster.nodes
    for node in cluster.nodes:
        node.signal(signal.SIGSTOP)
    try:
        until_sync(lambda: silence(cluster) > LEASE + 1, LEASE + 20)
        before = upkeep(cluster)["last_sweep_at"]
        sweeper.signal(signal.SIGCONT)
        until_sync(lambda: upkeep(cluster)["last_sweep_at"] > before, 20)
        assert silence(cluster) > LEASE + 1
        assert in_grace(cluster)
    finally:
        worker.signal(signal.SIGCONT)
    until_sync(lambda: all_succeeded(cluster), 30)
    assert silence(cluster) < LEASE
    assert outcomes(cluster)["crashed"] == 0
    assert told(path)["done"] >= JOBS


@pytest.mark.full
def test_a_sweeper_that_was_away_for_longer_than_the_lease_buries_nobody(cluster: Cluster) -> None:
    """The first one that sweeps again gives everybody a lease to be heard."""
    no_grace(cluster)
    sweeper, worker = cluster.nodes
    sweeper.kill()
    worker.signal(signal.SIGSTOP)
    try:
        until_sync(lambda: silence(cluster) > LEASE + 1, LEASE + 20)
        before = upkeep(cluster)["last_sweep_at"]
        sweeper.start()
        until_sync(lambda: upkeep(cluster)["last_sweep_at"] > before, 20)
        assert silence(cluster) > LEASE + 1
        assert in_grace(cluster)
    finally:
        worker.signal(signal.SIGCONT)
    until_sync(lambda: silence(cluster) < LEASE, 20)


@pytest.mark.full
@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed: no database here whose clock can be set")
@pytest.mark.parametrize("step", [600.0, -600.0], ids=["ahead", "back"])
def test_a_clock_of_the_database_that_is_set_kills_nobody(
    cluster: Cluster, postgres: ClockedPostgres, step: float
) -> None:
    """Ten minutes ahead, every worker was last heard ten minutes ago; ten minutes back, in ten minutes."""
    no_grace(cluster)
    path = witnessed(cluster, 2.0)
    before = upkeep(cluster)["now"]
    postgres.set_clock(step)
    try:
        assert abs((upkeep(cluster)["now"] - before).total_seconds() - step) < 60
        until_sync(lambda: all_succeeded(cluster), 30)
        until_sync(lambda: abs((upkeep(cluster)["last_sweep_at"] - before).total_seconds() - step) < 60, 20)
        until_sync(lambda: silence(cluster) < LEASE, 20)
        assert told(path) == {"began": JOBS, "done": JOBS}
        assert outcomes(cluster) == {"succeeded": JOBS}
    finally:
        postgres.set_clock(0)
        until_sync(lambda: abs((upkeep(cluster)["last_sweep_at"] - datetime.now(UTC)).total_seconds()) < 60, 20)
