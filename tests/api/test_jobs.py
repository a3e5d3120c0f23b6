"""Jobs one by one and as a list."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from taskflow.core.ids import new_id
from taskflow.core.job import State
from taskflow.roles.api import prefer
from tests.api.house import House
from tests.api.test_submit import pointers
from tests.support import until


def waiting(house: House, job_id: str) -> bool:
    """Whether somebody waits for a job."""
    return f"job:{job_id}" in house.events._topics


@pytest.mark.parametrize("job_id", ["x", "123", pytest.param(new_id(), id="new"), "%00", "..%2Fhealth"])
async def test_an_unknown_id_is_404(house: House, job_id: str) -> None:
    """Whether it could be one or not."""
    for method, path in [("GET", ""), ("POST", "/cancel"), ("POST", "/replay"), ("GET", "/artifacts")]:
        answer = await house.http.request(method, f"/jobs/{job_id}{path}")
        assert (answer.status_code, pointers(answer)) == (404, [])


async def test_a_document_that_can_never_change_has_an_etag_and_is_cached(house: House) -> None:
    """304 for who has it; a live and a failed one have none."""
    job_id = await house.finished()
    answer = await house.http.get(f"/jobs/{job_id}")
    assert answer.json()["result"] == {"n": 1}
    assert [attempt["outcome"] for attempt in answer.json()["attempts"]] == ["succeeded"]
    tag = answer.headers["etag"]
    assert await house.deps.cache.get(f"taskflow:job:default:{job_id}") == answer.content
    again = await house.http.get(f"/jobs/{job_id}", headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await house.http.get(f"/jobs/{job_id}", headers={"If-None-Match": '"x"'})).status_code == 200
    for other in (await house.failed(), (await house.submit())["id"]):
        assert "etag" not in (await house.http.get(f"/jobs/{other}")).headers


async def test_a_wait_ends_with_the_job(house: House) -> None:
    """By event, long before its time."""
    job_id = (await house.submit())["id"]
    asked = time.monotonic()
    answer = asyncio.create_task(house.http.get(f"/jobs/{job_id}", headers={"Prefer": "respond-async, wait=30"}))
    await until(lambda: waiting(house, job_id))
    await house.end(await house.claim(job_id))
    done = await answer
    assert done.json()["state"] == "succeeded"
    assert done.headers["preference-applied"] == "wait=30"
    assert time.monotonic() - asked < 5
    assert not waiting(house, job_id)


async def test_a_wait_ends_without_an_event_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is polled."""
    monkeypatch.setattr(prefer, "POLL", 0.05)
    job_id = (await house.submit())["id"]
    answer = asyncio.create_task(house.http.get(f"/jobs/{job_id}", headers={"Prefer": "wait=30"}))
    await until(lambda: waiting(house, job_id))
    await house.store.cancel("default", job_id)
    assert (await answer).json()["state"] == "cancelled"


async def test_a_wait_ends_with_its_time_and_with_the_process(house: House) -> None:
    """The job is answered as it is."""
    job_id = (await house.submit())["id"]
    answer = await house.http.get(f"/jobs/{job_id}", headers={"Prefer": "wait=1"})
    assert (answer.json()["state"], answer.headers["preference-applied"]) == ("queued", "wait=1")
    held = asyncio.create_task(house.http.get(f"/jobs/{job_id}", headers={"Prefer": "wait=999"}))
    await until(lambda: waiting(house, job_id))
    house.deps.stop.ask()
    assert (await held).headers["preference-applied"] == "wait=60"


@pytest.mark.parametrize("state", ["succeeded", "failed"])
async def test_a_wait_for_what_is_over_is_answered_at_once(house: House, state: str) -> None:
    """And a preference that says nothing is none."""
    job_id = await (house.finished() if state == "succeeded" else house.failed())
    answer = await house.http.get(f"/jobs/{job_id}", headers={"Prefer": "wait=60"})
    assert answer.json()["state"] == state
    answer = await house.http.get(f"/jobs/{job_id}", headers={"Prefer": "wait=soon"})
    assert "preference-applied" not in answer.headers


async def test_a_job_is_cancelled_at_once_unless_it_runs(house: House) -> None:
    """200, or 202 and an event for its worker; 409 for what is over."""
    queued = (await house.submit())["id"]
    answer = await house.http.post(f"/jobs/{queued}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert (await house.http.post(f"/jobs/{queued}/cancel")).status_code == 409
    running = (await house.submit())["id"]
    claim = await house.claim(running)
    async with house.events.subscribe("cancel") as news:
        answer = await house.http.post(f"/jobs/{running}/cancel")
        assert await anext(news) == ("cancel", f"{running} {claim.epoch}".encode())
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert answer.json()["cancel_requested_at"]
    failed = await house.failed()
    assert pointers(await house.http.post(f"/jobs/{failed}/cancel")) == []


async def test_a_failed_job_is_replayed_once(house: House) -> None:
    """200 with the job queued again and its ticket out; then 409, as for what has not failed."""
    job_id = await house.failed(task="t.add", payload={"a": 1})
    house.tickets.offered.clear()
    answer = await house.http.post(f"/jobs/{job_id}/replay", json={"payload": {"a": 10, "b": "x"}})
    job = answer.json()
    assert (answer.status_code, job["state"], job["run"], job["payload"]) == (200, "queued", 2, {"a": 10, "b": "x"})
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["failed"]
    assert [ticket.job_id for ticket in house.tickets.offered] == [job_id]
    assert (await house.http.post(f"/jobs/{job_id}/replay")).status_code == 409
    other = await house.failed()
    assert (await house.http.post(f"/jobs/{other}/replay")).json()["payload"] == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"payload": {"a": "1"}}, ["/payload/a"]),
        ({"payload": []}, ["/payload"]),
        ({"payload": {"a": 1, "x": "y" * (1 << 20)}}, ["/payload"]),
        ({"paylaod": {}}, ["/paylaod"]),
    ],
)
async def test_a_replay_with_a_payload_that_does_not_fit_changes_nothing(
    house: House, body: Any, expected: list[str]
) -> None:
    """422 with the pointer."""
    job_id = await house.failed(task="t.add", payload={"a": 1})
    answer = await house.http.post(f"/jobs/{job_id}/replay", json=body)
    assert (answer.status_code, pointers(answer)) == (422, expected)
    assert (await house.get(job_id))["state"] == "failed"


async def listed(house: House, query: str) -> list[str]:
    """Ids that a list query finds, over all its pages."""
    found: list[str] = []
    cursor = ""
    while True:
        page = (await house.http.get(f"/jobs?{query}{cursor}")).json()
        found += [job["id"] for job in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def test_a_list_is_filtered_and_paged(house: House) -> None:
    """Live and finished in one order; every filter; no job twice, none left out."""
    await house.store.ensure_queues(["other"])
    ids = [
        await house.finished(tags=["red"]),
        (await house.submit(queue="other"))["id"],
        await house.failed(),
        (await house.submit(task="t.add", payload={"a": 1}, delay=60))["id"],
        await house.finished(tags=["red", "blue"]),
    ]
    assert await listed(house, "") == ids[::-1]
    for limit in (1, 2, 5, 6):
        assert await listed(house, f"limit={limit}&order=asc") == ids
    assert await listed(house, "state=succeeded,failed&order=asc") == [ids[0], ids[2], ids[4]]
    assert await listed(house, "state=scheduled&state=failed&limit=1") == [ids[3], ids[2]]
    assert await listed(house, "task=t.add") == [ids[3]]
    assert await listed(house, "queue=other") == [ids[1]]
    assert await listed(house, "tag=blue") == [ids[4]]
    middle = (await house.get(ids[2]))["created_at"]
    assert await listed(house, f"created_after={middle}&order=asc&limit=2") == ids[2:]
    assert await listed(house, f"created_before={quote(middle.replace('Z', '+00:00'))}") == ids[:2][::-1]
    page = (await house.http.get("/jobs?limit=2")).json()
    assert page["items"][0]["attempts"] == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=0", ["?limit"]),
        ("limit=201", ["?limit"]),
        ("limit=x", ["?limit"]),
        ("limit=١", ["?limit"]),
        ("state=done", ["?state"]),
        ("order=up", ["?order"]),
        ("task=a%20b&queue=%00", ["?task", "?queue"]),
        ("created_after=yesterday", ["?created_after"]),
        ("stat=failed", ["?stat"]),
        ("task=a&task=b", ["?task"]),
        ("cursor=", ["?cursor"]),
        ("cursor=AAAA", ["?cursor"]),
        ("cursor=%C3%A9%00", ["?cursor"]),
        ("cursor=" + "f" * 43, ["?cursor"]),
    ],
)
async def test_a_wrong_parameter_is_named(house: House, query: str, expected: list[str]) -> None:
    """400, all of them at once."""
    answer = await house.http.get(f"/jobs?{query}")
    assert (answer.status_code, pointers(answer)) == (400, expected)


async def test_a_cursor_belongs_to_its_filter(house: House) -> None:
    """400 of its own type where the filter or the order has changed; the limit may."""
    for _ in range(3):
        await house.submit()
    cursor = (await house.http.get("/jobs?limit=1&task=t.any")).json()["next_cursor"]
    assert (await house.http.get(f"/jobs?limit=2&task=t.any&cursor={cursor}")).status_code == 200
    for query in ("limit=1", "task=t.add", "task=t.any&order=asc", "task=t.any&state=queued"):
        answer = await house.http.get(f"/jobs?{query}&cursor={cursor}")
        assert answer.status_code == 400
        assert answer.json()["type"] == "urn:taskflow:problem:bad-cursor"


async def test_a_page_of_large_jobs_ends_early(house: House) -> None:
    """At 8 MiB, with a cursor to the rest."""
    for _ in range(10):
        await house.submit(payload={"x": "y" * 1_000_000})
    page = (await house.http.get("/jobs?order=asc")).json()
    assert 8 <= len(page["items"]) < 10
    assert len(await listed(house, "order=asc")) == 10


async def test_states_of_the_documents_are_those_of_the_design(house: House) -> None:
    """No other word leaves the API."""
    job = await house.get(await house.finished())
    assert job["state"] in set(State)
    assert datetime.fromisoformat(job["finished_at"]).tzinfo == UTC
