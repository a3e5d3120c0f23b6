"""Each check finds what is wrong, says nothing of what is well, and mends what it says it mends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskflow.core.errors import ArtifactsUnavailable, BrokerUnavailable
from taskflow.core.job import Lane, LaneKey, RunsIn, State, Ticket
from taskflow.flow import doctor, spool_room
from taskflow.flow.doctor import CHECKS, Life, Severity
from taskflow.flow.doctor.cached import cached
from taskflow.flow.doctor.lanes import lanes
from taskflow.flow.doctor.queued import due, queued
from taskflow.flow.doctor.rows import IMPOSSIBLE, STUCK, rows
from taskflow.flow.doctor.servers import clock, servers
from taskflow.flow.doctor.spools import spools
from taskflow.flow.doctor.workers import BATCH, runs, sweeps, workers
from taskflow.ports.audit import Odd
from taskflow.ports.broker import LaneStanding
from taskflow.ports.store import Promoted, QueueInfo, Swept
from tests.flow.doctor_house import LANE, LEASE, House, live, waiting

OTHER = LaneKey("default", Lane.HIGH)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "spool")


@pytest.mark.parametrize("life", list(Life))
async def test_nothing_is_wrong_with_what_is_well(house: House, life: Life) -> None:
    """Every check has a line to say, also of what it cannot see."""
    house.life = life
    if life is Life.STOPPED:
        house.store.at = replace(house.store.at, workers=[], swept=9_999.0)
    found = await doctor.examine(house.deployment(servers={"store": house.objects}))
    assert [finding.severity for finding in found] == [Severity.OK] * len(CHECKS)
    assert all(finding.what for finding in found)


async def test_a_server_that_is_silent_is_told(house: House) -> None:
    """With its reason and what follows."""
    house.objects.error = ArtifactsUnavailable("refused")
    [found] = await house.told(servers, servers={"artifacts": house.objects})
    assert (found.check, found.severity) == ("artifacts", Severity.PROBLEM)
    assert "refused" in found.what
    assert "spools" in found.means


@pytest.mark.parametrize(("hours", "severities"), [(0, []), (1, [Severity.WARNING]), (-1, [Severity.WARNING])])
async def test_clocks_that_are_apart(house: House, hours: int, severities: list[Severity]) -> None:
    """In either direction; the embedded store has this host's."""
    house.store.at = replace(house.store.at, now=house.store.at.now + timedelta(hours=hours))
    assert [found.severity for found in await house.told(clock)] == severities
    house.life = Life.RUNNING
    assert await house.told(clock) == []


async def test_nobody_sweeps(house: House) -> None:
    """A problem where somebody works, a warning where nobody does."""
    house.store.at = replace(house.store.at, swept=60.0)
    [found] = await house.told(sweeps)
    assert (found.severity, "60 s" in found.what, "scheduler" in found.advice) == (Severity.PROBLEM, True, True)
    house.store.at = replace(house.store.at, swept=None, workers=[])
    assert [found.severity for found in await house.told(sweeps)] == [Severity.WARNING]


async def test_a_silent_worker_is_swept_until_it_is_dead(house: House) -> None:
    """The first sweep after a gap only begins the grace."""
    house.store.at = replace(house.store.at, workers=[live("w1", silent=LEASE + 1), live("w2")])
    [found] = await house.told(workers)
    assert (found.severity, list(found.ids)) == (Severity.PROBLEM, ["w1"])
    much = 2 * BATCH + 3
    house.store.sweeps = [Swept(in_grace=True), Swept(dead_workers=("w1",)), Swept(rescued=much), Swept()]
    assert await house.mended([found, found]) == [f"swept: 1 workers declared dead, {much} runs rescued"]
    assert house.store.sweeps == []
    house.life = Life.RUNNING
    assert [found.repair for found in await house.told(workers)] == [None]


async def test_silence_is_judged_by_the_lease_of_who_is_silent(house: House) -> None:
    """And never by that of whoever examines."""
    patient, hasty = live("patient", silent=100.0, lease=120.0), live("hasty", silent=2.0, lease=1.0)
    house.store.at = replace(house.store.at, workers=[patient, hasty], swept=10.0)
    [found] = await house.told(workers)
    assert list(found.ids) == ["hasty"]
    assert found.repair is not None
    assert "for up to 1 s" in found.repair.does
    assert await house.told(sweeps) == []


async def test_two_workers_of_one_process(house: House) -> None:
    """By host and pid, among those that beat."""
    twins = [live("w1", host="h"), live("w2", host="h")]
    house.store.at = replace(house.store.at, workers=twins)
    assert [(found.severity, found.ids) for found in await house.told(workers)] == [(Severity.WARNING, ["w1", "w2"])]


async def test_what_a_killed_process_left_is_adopted(house: House) -> None:
    """The lock that is held proves it dead."""
    house.life, house.store.adopted = Life.STOPPED, Swept(dead_workers=("w1",), rescued=2)
    house.store.at = replace(house.store.at, workers=[live(running=2)])
    [found] = await house.told(workers)
    assert "2 runs" in found.what
    assert await house.mended([found]) == ["declared 1 workers dead and queued 2 runs again"]


@pytest.mark.parametrize("kind", [Odd.ORPHAN_RUN, Odd.OVERDUE_RUN])
async def test_runs_that_nobody_ends(house: House, kind: Odd) -> None:
    """Few of many ids are told."""
    house.store.odd_ids[kind] = [f"j{number}" for number in range(9)]
    [found] = await house.told(runs)
    assert "j0, j1, j2 and 6 more" in found.what
    assert found.repair is not None
    assert found.repair.name == "sweep"


@pytest.mark.parametrize(
    ("worker", "age", "told"),
    [
        (live(running=1), 31.0, True),
        (live(running=1), 29.0, False),
        (live(running=2), 31.0, False),
        (live(silent=LEASE + 1), 31.0, False),
        (live(tasks=("other",)), 31.0, False),
        (live(queues=("other",)), 31.0, False),
        (live(queues=("default",)), 31.0, True),
    ],
)
async def test_an_old_job_beside_a_free_slot(house: House, worker: Any, age: float, told: bool) -> None:
    """Free, alive, of its task and of its queue."""
    house.store.at = replace(house.store.at, workers=[worker])
    house.store.rows = {LANE: [waiting("j1", age)]}
    assert [found.ids for found in await house.told(queued)] == ([["j1"]] if told else [])


async def test_jobs_without_a_worker_are_a_warning(house: House) -> None:
    """By task."""
    house.store.at = replace(house.store.at, unrunnable={"none": 7, "gone": 1})
    found = await house.told(queued)
    assert [(one.severity, "7 jobs" in one.what) for one in found] == [
        (Severity.WARNING, True),
        (Severity.WARNING, False),
    ]


async def test_what_is_due_is_promoted(house: House) -> None:
    """All of it."""
    house.store.odd_ids[Odd.DUE] = ["j1"]
    [found] = await house.told(due)
    ticket = Ticket("j", LANE, RunsIn.ASYNC, house.store.at.now)
    house.store.promotions = [Promoted([ticket] * 2, 0.0, more=True), Promoted([ticket], None)]
    assert await house.mended([found]) == ["queued 3 jobs that were due"]


@pytest.mark.parametrize("kind", [*IMPOSSIBLE, *STUCK])
async def test_impossible_rows_are_a_problem_and_nobody_guesses(house: House, kind: Odd) -> None:
    """Each kind in words of its own."""
    house.store.odd_ids[kind] = ["j1"]
    [found] = await house.told(rows)
    assert (found.severity, found.ids, found.repair) == (Severity.PROBLEM, ["j1"], None)
    assert (IMPOSSIBLE | STUCK)[kind][0] in found.what


def test_every_oddity_is_somebodys() -> None:
    """A kind that no check asks for would be found by nobody."""
    assert {*IMPOSSIBLE, *STUCK, Odd.DUE, Odd.ORPHAN_RUN, Odd.OVERDUE_RUN} == set(Odd)


@pytest.mark.parametrize("standing", [None, LaneStanding(3, 0)])
async def test_a_lane_without_a_consumer(house: House, standing: LaneStanding | None) -> None:
    """A problem while a worker serves it; paused, or without workers, it is not."""
    house.broker.stands[LANE] = standing
    assert [found.ids for found in await house.told(lanes)] == [["default.normal"]]
    house.store.standings = [QueueInfo(name="default", paused=True)]
    assert await house.told(lanes) == []
    house.store.standings = [QueueInfo(name="default")]
    house.store.at = replace(house.store.at, workers=[live(queues=("other",))])
    assert await house.told(lanes) == []


async def test_another_namespace_than_the_workers_have_is_a_likely_reason(house: House) -> None:
    """Where nothing of this one is there; by logs, the other one is named."""
    house.broker.stands = {LaneKey("default", lane): None for lane in Lane}
    [found] = await house.told(lanes)
    assert "no queue of the namespace 'ns'" in found.advice
    house.store.logs = ["theirs/logs/2026/01/01/o.ndjson"]
    [found] = await house.told(lanes)
    assert "below 'theirs'" in found.advice
    house.broker.stands.popitem()
    [found] = await house.told(lanes)
    assert "namespace" not in found.advice


async def test_spare_tickets_are_harmless_and_dead_ones_are_worth_a_look(house: House) -> None:
    """The first is said beside, the second is a warning."""
    house.broker.stands[LANE] = LaneStanding(5_000, 1)
    [found] = await lanes(house.deployment())
    assert (found.severity, "harmless: default (5,000 messages for 0 rows)" in found.what) == (Severity.OK, True)
    house.broker.given_up = 2
    assert [found.severity for found in await house.told(lanes)] == [Severity.WARNING]


async def test_a_broker_that_does_not_answer_is_said_once(house: House) -> None:
    """As a problem by its ping, here as a warning."""
    house.broker.error = BrokerUnavailable("away")
    assert [found.severity for found in await house.told(lanes)] == [Severity.WARNING]


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ({"id": "j1", "state": "succeeded", "epoch": 2}, False),
        ({"id": "j1", "state": "succeeded", "epoch": 1}, True),
        ({"id": "j1", "state": "expired", "epoch": 2}, True),
        ({"id": "j2", "state": "succeeded", "epoch": 2}, True),
        ({}, True),
        ("nonsense", True),
    ],
)
async def test_a_cached_document_that_lies_is_deleted(house: House, document: Any, wrong: bool) -> None:
    """By id, state and epoch; others stay."""
    house.store.jobs = [("j1", State.SUCCEEDED, 2)]
    await house.cache.put("key:j1", json.dumps(document).encode(), 60)
    await house.cache.put("key:other", b"", 60)
    found = await house.told(cached)
    assert [one.ids for one in found] == ([["j1"]] if wrong else [])
    await house.mended(found)
    assert (await house.cache.get("key:j1") is None) == wrong
    assert await house.cache.get("key:other") == b""


async def test_a_live_job_has_no_cached_document(house: House) -> None:
    """Not even a true one: it may change."""
    house.store.jobs = [("j1", State.FAILED, 1)]
    await house.cache.put("key:j1", b'{"id": "j1", "state": "failed", "epoch": 1}', 60)
    assert [one.ids for one in await house.told(cached)] == [["j1"]]


def spooled(house: House, name: str, age: float) -> Path:
    """A spool of a dead process."""
    directory = house.spool / name
    directory.mkdir(parents=True)
    (directory / spool_room.LOCK).touch()
    (directory / "1-x.spool").write_bytes(b"12345")
    os.utime(directory / "1-x.spool", (time.time() - age,) * 2)
    return directory


async def test_spools_of_the_dead_are_stored_and_those_of_the_living_are_told(house: House) -> None:
    """By their locks; only what is old; nothing is touched by looking."""
    directory = spooled(house, "dead", 700)
    spooled(house, "recent", 60)
    spooled(house, ".unborn", 700)
    [found] = await house.told(spools)
    assert (found.ids, "5 bytes" in found.what) == (["dead"], True)
    assert (await house.mended([found])) == ["10 bytes could not be stored"]
    assert house.shipped == 1
    with (directory / spool_room.LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        [stuck] = await house.told(spools)
        assert ("live" in stuck.means, stuck.repair) == (True, None)
    (directory / spool_room.LOCK).unlink()
    assert [one.ids for one in await house.told(spools)] == [["dead"]]
    assert not (directory / spool_room.LOCK).exists()
