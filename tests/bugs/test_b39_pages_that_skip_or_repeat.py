"""A cursor without a tie-breaker, or one that is coarser than the column: rows of one instant are skipped or repeated.

Seen in good_job#1749 and activepieces#14323. Right: every list that is read by pages shows each row exactly once in either
order, whatever is inserted or moved meanwhile; a cursor is opaque, and one that nobody gave is 400.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from taskflow.core.job import Outcome
from taskflow.testing.store_facts import T0, at, end, job
from tests.api.house import House
from tests.bug_report import Report
from tests.support import FULL

ROWS = 1_000 if FULL else 100
BESIDE = 100 if FULL else 10
BY = 7
MICROS = 1e-6


async def paged(house: House, path: str, act: Any, **filters: Any) -> list[str]:
    """The ids of a whole list; `act` does something between pages."""
    ids, cursor = [], None
    while True:
        query: Mapping[str, Any] = filters | ({"cursor": cursor} if cursor else {})
        answer = await house.http.get(path, params={"limit": BY, **query})
        assert answer.status_code == 200, answer.text
        ids += [item["id"] for item in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return ids
        assert len(ids) < 2 * (ROWS + BESIDE), "the list never ends"
        await act()


async def nothing() -> None:
    """Happens between pages."""


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_jobs_of_one_instant(house: House, order: str, report: Report) -> None:
    """And some a microsecond before and after; others come, run and end while pages are read."""
    new = [job(task="t.any", tags='["seen"]') for _ in range(ROWS)]
    await house.store.insert(new, now=T0)
    near = [job(task="t.any", tags='["seen"]') for _ in range(6)]
    for n, one in enumerate(near):
        await house.store.insert([one], now=at((n - 3) * MICROS if n < 3 else (n - 2) * MICROS))
    waiting = [one.id for one in new]
    random.shuffle(waiting)
    come = 0

    async def meanwhile() -> None:
        nonlocal come
        if come < BESIDE:
            come += 1
            await house.store.insert([job(task="t.any")], now=T0)
        claims = await house.store.claim("w1", [waiting.pop() for _ in range(3) if waiting], ["t.any"])
        ways = [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SNOOZED]
        await house.store.settle([end(claim, random.choice(ways)) for claim in claims])

    ids = await paged(house, "/jobs", meanwhile, order=order)
    wanted = {one.id for one in [*new, *near]}
    seen = [job_id for job_id in ids if job_id in wanted]
    assert len(seen) == len(set(seen)) == len(wanted)
    assert len(ids) == len(set(ids))
    for filters in ({"tag": "seen"}, {"tag": "seen", "task": "t.any", "created_after": "2026-01-01T00:00:00Z"}):
        ids = await paged(house, "/jobs", nothing, order=order, **filters)
        assert len(ids) == len(set(ids)) == len(wanted) - (3 if "task" in filters else 0)
    report("B39", scale=f"{ROWS} rows by {BY}, {come} more came, {ROWS - len(waiting)} moved", faults=ROWS)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_dead_letters_of_one_instant(house: House, order: str, report: Report) -> None:
    """The list of failed jobs is read by the same rule, and so are bulk replays by filter."""
    new = [job(task="t.any", max_attempts=1) for _ in range(ROWS)]
    await house.store.insert(new, now=T0)
    for start in range(0, ROWS, 100):
        claims = await house.store.claim("w1", [one.id for one in new[start : start + 100]], ["t.any"])
        await house.store.settle([end(claim, Outcome.FAILED) for claim in claims])
    ids = await paged(house, "/dead-letters", nothing, order=order)
    assert len(ids) == len(set(ids)) == ROWS
    replayed = (await house.http.post("/dead-letters/replay", json={"filter": {"task": "t.any"}})).json()
    assert {item["status"] for item in replayed["items"]} == {200}
    assert len({item["id"] for item in replayed["items"]}) == ROWS
    report("B39", scale=f"{ROWS} dead letters by {BY}, then all replayed", faults=ROWS)


async def test_a_cursor_that_nobody_gave_is_refused(house: House, report: Report) -> None:
    """Garbage, cut, lengthened, with one character changed, or of another list: 400, never another page."""
    await house.store.insert([job(task="t.any") for _ in range(3)], now=T0)
    good = (await house.http.get("/jobs?limit=2")).json()["next_cursor"]
    bad = ["x", "=", "null", "0", good[:-1], good + "A", good.swapcase(), "A" * 64, "é", "a b", "\0", "-" * len(good)]
    # The rest is a position in the list: any is as good as another.
    bound = 10
    bad += [good[:n] + ("A" if good[n] != "A" else "B") + good[n + 1 :] for n in range(bound)]
    for cursor in bad:
        answer = await house.http.get("/jobs", params={"cursor": cursor})
        assert answer.status_code == 400, cursor
        assert answer.json()["type"].endswith("bad-cursor")
    for other in ("/jobs?order=asc", "/jobs?tag=x", "/jobs?state=queued", "/dead-letters?"):
        answer = await house.http.get(f"{other}&cursor={good}")
        assert answer.status_code == 400, other
    report("B39", scale=f"{len(bad) + 4} wrong cursors", faults=len(bad) + 4)
