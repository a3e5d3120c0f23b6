"""All checks together: what is looked at twice, and what fails while it is looked at or mended."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taskflow.core.errors import StoreUnavailable
from taskflow.core.job import Lane, LaneKey
from taskflow.flow import doctor
from taskflow.flow.doctor import Finding, Severity
from taskflow.flow.doctor.objects import objects
from taskflow.flow.doctor.queued import due, queued
from taskflow.flow.doctor.workers import runs, sweeps
from taskflow.ports.audit import Odd
from tests.flow.doctor_house import LANE, House, waiting

OTHER = LaneKey("default", Lane.HIGH)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "spool")


async def test_what_passes_by_itself_is_not_told(house: House) -> None:
    """Only rows that are wrong in both looks; a system at work is always in between."""
    house.store.rows = {LANE: [waiting("j1"), waiting("j2")], OTHER: [waiting("j3")]}
    looks = 0

    async def moving(deployment: Any) -> list[Finding]:
        nonlocal looks
        looks += 1
        if looks == 2:
            house.store.rows = {LANE: [waiting("j2"), waiting("j4")]}
        return await queued(deployment)

    [found] = await doctor.examine(house.deployment(), [moving], again=0)
    assert (looks, found.ids, found.what.endswith(": j2")) == (2, ["j2"], True)


async def test_other_rows_at_the_second_look_are_a_system_at_work(house: House) -> None:
    """Nothing stands still."""
    answers = [["j1"], ["j2"]]

    async def moving(deployment: Any) -> list[Finding]:
        house.store.odd_ids[Odd.DUE] = answers.pop(0)
        return await due(deployment)

    [found] = await doctor.examine(house.deployment(), [moving], again=0)
    assert (found.severity, found.check) == (Severity.OK, "due")


async def test_another_task_without_a_worker_at_the_second_look(house: House) -> None:
    """Is not the one of the first, though what it means is the same."""
    answers = [{"first": 1, "both": 2}, {"both": 3, "second": 1}]

    async def moving(deployment: Any) -> list[Finding]:
        house.store.at = replace(house.store.at, unrunnable=answers.pop(0))
        return await queued(deployment)

    [found] = await doctor.examine(house.deployment(), [moving], again=0)
    assert (found.severity, found.ids, "task both, and 3 jobs" in found.what) == (Severity.WARNING, ["both"], True)


async def test_what_is_gone_at_the_second_look_is_well(house: House) -> None:
    """And says that it was not at the first."""
    answers = [["j1"], []]

    async def passing(deployment: Any) -> list[Finding]:
        house.store.odd_ids[Odd.ORPHAN_RUN] = answers.pop(0)
        return await runs(deployment)

    [found] = await doctor.examine(house.deployment(), [passing], again=0)
    assert (found.severity, found.check, answers) == (Severity.OK, "runs", [])


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (StoreUnavailable("away"), "away"),
        (sqlite3.DatabaseError("malformed\nin detail"), "DatabaseError: malformed"),
        (TimeoutError(), "TimeoutError"),
    ],
)
async def test_a_store_that_goes_away_is_told_and_the_others_are_looked_at(
    house: House, error: Exception, why: str
) -> None:
    """One check that cannot look does not end the examination, whatever its driver says."""
    house.store.error = error
    found = await doctor.examine(house.deployment(), [sweeps, objects])
    assert [(one.check, one.severity) for one in found] == [("sweeps", Severity.PROBLEM), ("objects", Severity.OK)]
    assert found[0].what == f"could not be looked at: {why}"


async def test_a_repair_that_fails_says_so_and_the_next_is_done(house: House) -> None:
    """Each for itself."""

    async def fails() -> str:
        raise StoreUnavailable("away")

    async def breaks() -> str:
        raise OSError(5, "Input/output error")

    async def works() -> str:
        return "worked"

    def finding(name: str, work: Any) -> Finding:
        return Finding(check="c", severity=Severity.WARNING, what="w", repair=doctor.Repair(name, f"do {name}", work))

    told = await house.mended([finding("a", fails), finding("b", breaks), finding("c", works)])
    assert told == ["could not do a: away", "could not do b: OSError: [Errno 5] Input/output error", "worked"]
