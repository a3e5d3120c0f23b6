"""POST /jobs and /jobs/batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskflow.core.errors import StoreUnavailable
from taskflow.core.job import Lane, NewJob
from taskflow.ports.store import Inserted
from taskflow.roles.api.submit import SubmitRoutes
from tests.api.house import House, publish

MANY = {f"name{n}": 1 for n in range(10_000)}
JSON = {"content-type": "application/json"}
FIELDS = [
    "id",
    "task",
    "queue",
    "state",
    "reason",
    "priority",
    "payload",
    "result",
    "error",
    "attempt",
    "max_attempts",
    "run",
    "epoch",
    "crashes",
    "interruptions",
    "run_at",
    "expires_at",
    "timeout",
    "tags",
    "metadata",
    "idempotency_key",
    "progress",
    "worker",
    "cancel_requested_at",
    "created_at",
    "started_at",
    "finished_at",
    "attempts",
]


def pointers(answer: Any) -> list[str]:
    """The fields that a problem names."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"].startswith("urn:taskflow:problem:")
    assert problem["title"]
    assert problem["instance"] == f"urn:taskflow:request:{answer.headers['x-request-id']}"
    return [error["pointer"] for error in problem.get("errors", [])]


async def test_an_accepted_job_is_stored_and_shown_whole(house: House) -> None:
    """202, Location, the document with every field; the same document is read back."""
    body = {"task": "t.add", "payload": {"a": 1}, "priority": 8, "tags": ["x", "y"], "metadata": {"k": [1]}}
    answer = await house.http.post("/jobs", json=body)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert list(job) == FIELDS
    assert job["created_at"].endswith("Z")
    assert len(job["created_at"]) == len("2026-11-25T12:00:00.000000Z")
    assert (job["state"], job["priority"], job["max_attempts"], job["timeout"]) == ("queued", 8, 5, 60.0)
    assert (job["tags"], job["metadata"], job["payload"]) == (["x", "y"], {"k": [1]}, {"a": 1})
    assert (await house.http.get(answer.headers["location"].removeprefix("/api/v1"))).content == answer.content
    [ticket] = house.tickets.offered
    assert (ticket.job_id, ticket.lane.lane) == (job["id"], Lane.HIGH)


async def test_numbers_and_order_of_a_payload_are_kept_exactly(house: House) -> None:
    """Payload, metadata: every byte as it was sent, through store and answer."""
    payload = '{ "z": 123456789012345678901234567890, "a": 1.10, "f": -0.0, "e": 1e2, "s": "\\u00e9" }'
    raw = f'{{"payload": {payload}, "task": "t.any", "metadata": {{"n": 1.0}}}}'
    answer = await house.http.post("/jobs", content=raw, headers=JSON)
    assert answer.status_code == 202
    assert payload in answer.text
    again = await house.http.get(f"/jobs/{answer.json()['id']}")
    assert payload in again.text
    assert '"metadata":{"n": 1.0}' in again.text


async def test_a_delay_and_a_future_start_make_a_scheduled_job(house: House) -> None:
    """A run_at that has passed means now."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (await house.submit(run_at=soon))["state"] == "scheduled"
    delayed = await house.submit(delay="1h30m")
    assert delayed["state"] == "scheduled"
    wait = datetime.fromisoformat(delayed["run_at"]) - datetime.fromisoformat(delayed["created_at"])
    assert wait == timedelta(minutes=90)
    assert (await house.submit(run_at="2020-01-01T00:00:00+02:00"))["state"] == "queued"
    assert (await house.submit(timeout="10m"))["timeout"] == 600.0
    assert len(house.tickets.offered) == 2


FAR = (datetime.now(UTC) + timedelta(days=6 * 366)).isoformat()
NESTED = '{"task": "t.any", "payload": {"a": ' + "[" * 100 + "]" * 100 + "}}"
BAD_TEXTS: Mapping[str, tuple[str | bytes, int, list[str]]] = {
    "malformed": ('{"task": "t.any",', 400, []),
    "empty": ("", 400, []),
    "not utf-8": (b'{"task": "\xff"}', 400, []),
    "NaN": ('{"task": "t.any", "payload": {"a": NaN}}', 400, []),
    "two documents": ('{"task": "t.any"} {}', 400, []),
    "too deep": (NESTED, 422, [""]),
    "far too deep": ("[" * 100_000, 422, [""]),
    "1e999": ('{"task": "t.any", "payload": {"a": 1e999}}', 422, ["/payload"]),
    "NUL": ('{"task": "t.any", "payload": {"a": "x\\u0000"}}', 422, ["/payload/a"]),
    "NUL in a name": ('{"task": "t.any", "payload": {"a\\u0000": 1}}', 422, ["/payload"]),
    "lone surrogate": ('{"task": "t.any", "payload": {"a": "\\ud800"}}', 422, ["/payload/a"]),
    "duplicate member": ('{"task": "t.any", "task": "t.any"}', 422, ["/task"]),
    "duplicate deep": ('{"task": "t.any", "payload": {"a": 1, "a": 2}}', 422, ["/payload"]),
    "5,000 digits": ('{"task": "t.any", "payload": {"a": ' + "9" * 5_000 + "}}", 422, ["/payload"]),
    "an array": ("[]", 422, [""]),
    "a text": ('"t.any"', 422, [""]),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
async def test_a_text_that_is_no_good_json_is_refused(house: House, name: str) -> None:
    """400 where it is no JSON, 422 where it holds what cannot be stored; nothing is stored."""
    raw, status, wrong = BAD_TEXTS[name]
    answer = await house.http.post("/jobs", content=raw, headers=JSON)
    assert (answer.status_code, pointers(answer)) == (status, wrong)
    assert await house.count() == 0


BAD_FIELDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no task": ({"task": None}, ["/task"]),
    "unknown task": ({"task": "t.ad"}, ["/task"]),
    "payload misfit": ({"task": "t.add", "payload": {"a": "1", "c": 2}}, ["/payload/a", "/payload"]),
    "payload lacks": ({"task": "t.add"}, ["/payload/a"]),
    "payload is no object": ({"payload": [1]}, ["/payload"]),
    "payload too large": ({"payload": {"a": "x" * (1 << 20)}}, ["/payload"]),
    "unknown queue": ({"queue": "defualt"}, ["/queue"]),
    "priority 10": ({"priority": 10}, ["/priority"]),
    "priority true": ({"priority": True}, ["/priority"]),
    "priority 5.0": ({"priority": 5.0}, ["/priority"]),
    "run_at local": ({"run_at": "2026-11-25T12:00:00"}, ["/run_at"]),
    "run_at no instant": ({"run_at": "2026-02-30T12:00:00Z"}, ["/run_at"]),
    "run_at number": ({"run_at": 1_700_000_000}, ["/run_at"]),
    "run_at year 1": ({"run_at": "0001-01-01T00:00:00+14:00"}, ["/run_at"]),
    "run_at beyond": ({"run_at": FAR}, ["/run_at"]),
    "delay beyond": ({"delay": 6 * 366 * 86_400}, ["/delay"]),
    "delay negative": ({"delay": -1}, ["/delay"]),
    "delay endless": ({"delay": "9" * 400 + "s"}, ["/delay"]),
    "delay odd text": ({"delay": "1_000"}, ["/delay"]),
    "delay array": ({"delay": []}, ["/delay"]),
    "both": ({"delay": 1, "run_at": "2026-11-25T12:00:00Z"}, ["/delay"]),
    "attempts 0": ({"max_attempts": 0}, ["/max_attempts"]),
    "attempts 1001": ({"max_attempts": 1001}, ["/max_attempts"]),
    "timeout 0": ({"timeout": 0}, ["/timeout"]),
    "timeout 25 h": ({"timeout": "25h"}, ["/timeout"]),
    "expiry before start": ({"delay": "2h", "expires_at": "2026-01-01T00:00:00Z"}, ["/expires_at"]),
    "tags object": ({"tags": {}}, ["/tags"]),
    "bad tag": ({"tags": ["ok", "not ok", 7]}, ["/tags/1", "/tags/2"]),
    "tag twice": ({"tags": ["a", "a"]}, ["/tags/1"]),
    "33 tags": ({"tags": [f"t{n}" for n in range(33)]}, ["/tags"]),
    "metadata array": ({"metadata": []}, ["/metadata"]),
    "metadata too large": ({"metadata": {"a": "é" * 9_000}}, ["/metadata"]),
    "unknown field": ({"piority": 1}, ["/piority"]),
    "field of a later version": ({"unique": "x"}, ["/unique"]),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
async def test_a_wrong_field_is_named_and_nothing_is_stored(house: House, name: str) -> None:
    """422 with the pointer of each wrong field."""
    wrong, expected = BAD_FIELDS[name]
    body = {name: value for name, value in ({"task": "t.any"} | wrong).items() if value is not None}
    answer = await house.http.post("/jobs", json=body)
    assert (answer.status_code, pointers(answer)) == (422, expected)
    assert await house.count() == 0


async def test_all_wrong_fields_are_told_at_once_with_what_was_perhaps_meant(house: House) -> None:
    """And the nearest name of each that is misspelt."""
    answer = await house.http.post("/jobs", json={"task": "t.ad", "queue": "defult", "priority": -1, "timout": 1})
    assert pointers(answer) == ["/task", "/queue", "/priority", "/timout"]
    details = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert "'t.add'" in details["/task"]
    assert "'default'" in details["/queue"]
    assert "'timeout'" in details["/timout"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({}, 415),
        ({"content-type": 'application/json; charset="UTF-8"'}, 202),
    ],
)
async def test_only_plain_json_is_taken(house: House, headers: dict[str, str], status: int) -> None:
    """Another type, another charset and a compressed body are 415."""
    answer = await house.http.post("/jobs", content=b'{"task": "t.any"}', headers=headers)
    assert answer.status_code == status
    assert await house.count() == (status == 202)


async def test_a_body_is_measured_while_it_comes(house: House) -> None:
    """413 by its declared length, and by what really came where none is declared."""

    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 65_536

    for content in (b" " * (1 << 21), chunks()):
        answer = await house.http.post("/jobs", content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.headers["connection"] == "close"


async def test_the_same_key_and_body_is_the_same_job(house: House) -> None:
    """200 with the original and Idempotent-Replayed, also for a body that is only written differently."""
    first = await house.http.post("/jobs", json={"task": "t.any", "tags": ["a"]}, headers={"Idempotency-Key": "k 1"})
    again = await house.http.post(
        "/jobs", content='{"tags":["a"], "task": "t.any"}', headers={"Idempotency-Key": '"k 1"', **JSON}
    )
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["idempotency_key"] == "k 1"
    other = await house.http.post("/jobs", json={"task": "t.any"}, headers={"Idempotency-Key": "k 1"})
    assert other.status_code == 422
    assert other.json()["type"].endswith("idempotency-key-reused")
    assert await house.count() == 1


async def test_two_hundred_at_once_with_one_key_are_one_job(house: House) -> None:
    """Whoever loses waits for the winner's commit."""
    answers = await asyncio.gather(
        *(house.http.post("/jobs", json={"task": "t.any"}, headers={"Idempotency-Key": "one"}) for _ in range(200))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 199 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize("key", [b"", b" ", b"x" * 256, "é".encode(), b"a\x01"])
async def test_a_key_is_printable_and_short(house: House, key: bytes) -> None:
    """400 that names the header."""
    answer = await house.http.post("/jobs", json={"task": "t.any"}, headers={b"idempotency-key": key})
    assert (answer.status_code, pointers(answer)) == (400, ["Idempotency-Key"])


async def test_a_purged_job_takes_its_key_along(house: House) -> None:
    """The key makes a new job afterwards."""
    job_id = await house.failed(headers={"Idempotency-Key": "gone"})
    await house.http.post("/dead-letters/purge", json={"ids": [job_id]})
    assert (await house.submit(headers={"Idempotency-Key": "gone"}))["id"] != job_id


async def test_one_bad_row_among_two_hundred_fails_alone(house: House) -> None:
    """The others of its batch are stored."""

    def body(n: int) -> dict[str, Any]:
        return {"task": "t.any", "payload": {"n": n}} if n != 77 else {"task": "t.any", "payload": {"n": "\0"}}

    answers = await asyncio.gather(*(house.http.post("/jobs", json=body(n)) for n in range(200)))
    assert [answer.status_code for answer in answers].count(202) == 199
    assert answers[77].status_code == 422


async def test_a_task_that_was_just_published_is_known(house: House) -> None:
    """A name that is not in the snapshot is looked up again, at most once a second."""
    assert (await house.http.post("/jobs", json={"task": "t.new"})).status_code == 422
    await publish(house.store, {"t.new": {"type": "object"}})
    house.deps.catalog._ticks = lambda: 1e9
    assert (await house.http.post("/jobs", json={"task": "t.new"})).status_code == 202


async def test_a_store_that_is_away_is_503_with_the_id(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After, and the id under which the job may turn up."""

    async def away(_: Any) -> Inserted:
        raise StoreUnavailable("disk full on host postgres-7")

    monkeypatch.setattr(house.deps.submitter, "submit", away)
    answer = await house.http.post("/jobs", json={"task": "t.any"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "postgres-7" not in answer.text
    assert len(answer.json()["detail"].split("job ")[1].split()[0]) == 36


async def test_a_batch_that_the_store_does_not_answer_names_each_id(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a job alone: what may have been stored can be looked for."""

    async def away(jobs: Sequence[NewJob], **_: Any) -> list[Inserted]:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(house.store, "insert", away)
    answer = await house.http.post(
        "/jobs/batch", json={"jobs": [{"task": "t.any"}, {"task": "nope"}, {"task": "t.any"}]}
    )
    items = answer.json()["items"]
    assert [item["status"] for item in items] == [503, 422, 503]
    ids = [item["problem"]["detail"].split("job ")[1].split()[0] for item in items if item["status"] == 503]
    assert {len(job_id) for job_id in ids} == {36}
    assert len(set(ids)) == 2


async def test_a_batch_answers_for_each_of_its_jobs(house: House) -> None:
    """207; good ones are stored, bad ones have their problem with pointers into the item, payloads stay exact."""
    raw = (
        '{"jobs": [{"task": "t.any", "payload": {"n": 1.10}}, {"task": "nope"}, '
        '{"task": "t.add", "payload": { "a": 123456789012345678901234567890 }}]}'
    )
    answer = await house.http.post("/jobs/batch", content=raw, headers=JSON)
    assert answer.status_code == 207
    items = answer.json()["items"]
    assert [(item["index"], item["status"]) for item in items] == [(0, 202), (1, 422), (2, 202)]
    assert items[1]["problem"]["errors"][0]["pointer"] == "/task"
    assert '{"n": 1.10}' in answer.text
    assert '{ "a": 123456789012345678901234567890 }' in answer.text
    assert await house.count() == 2


async def test_an_item_of_a_keyed_batch_has_the_key_and_its_index(house: House) -> None:
    """The batch again is the same jobs; a changed item alone is refused."""
    jobs = [{"task": "t.any", "payload": {"n": n}} for n in range(3)]
    headers = {"Idempotency-Key": "b"}
    first = (await house.http.post("/jobs/batch", json={"jobs": jobs}, headers=headers)).json()["items"]
    jobs[1]["payload"] = {"n": 9}
    again = (await house.http.post("/jobs/batch", json={"jobs": jobs}, headers=headers)).json()["items"]
    assert [item["status"] for item in again] == [200, 422, 200]
    assert again[2]["job"]["id"] == first[2]["job"]["id"]
    assert first[2]["job"]["idempotency_key"] == "b:2"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ["/jobs"]),
        ({"jobs": {}}, ["/jobs"]),
        ({"jobs": []}, ["/jobs"]),
        ({"jobs": [{"task": "t.any"}] * 1_001}, ["/jobs"]),
        ({"jobs": [{"task": "t.any"}, 7]}, ["/jobs/1"]),
        ({"jobs": [{"task": "t.any"}], "atomic": True}, ["/atomic"]),
    ],
)
async def test_what_is_no_batch_is_refused_whole(house: House, body: dict[str, Any], expected: list[str]) -> None:
    """422, and nothing is stored."""
    answer = await house.http.post("/jobs/batch", json=body)
    assert (answer.status_code, pointers(answer)) == (422, expected)
    assert await house.count() == 0


async def test_a_large_batch_is_taken_and_a_larger_one_is_413(house: House) -> None:
    """Up to 16 MiB."""
    jobs = [{"task": "t.any", "payload": {"x": "y" * 1_000_000}} for _ in range(15)]
    answer = await house.http.post("/jobs/batch", json={"jobs": jobs})
    assert {item["status"] for item in answer.json()["items"]} == {202}
    answer = await house.http.post("/jobs/batch", content=json.dumps({"jobs": jobs + jobs}), headers=JSON)
    assert answer.status_code == 413


def test_the_submit_handler_describes_itself() -> None:
    """Its docstring is part of the API description."""
    assert "durable" in SubmitRoutes.submit.__operation__.description  # type: ignore[attr-defined]


async def test_what_is_answered_for_a_new_job_is_what_is_stored(house: House) -> None:
    """Also for the next one, which differs in one thing: whatever the API keeps of the first is not said of the second."""
    alike: dict[str, Any] = {"task": "t.any", "payload": {"n": 1.0}, "timeout": 60}
    for change in (
        {},
        {"payload": {"n": 1}},
        {"timeout": 60.0},
        {"timeout": 61},
        {"priority": 9},
        {"max_attempts": 1},
        {"tags": ["a"]},
        {"metadata": {"m": True}},
        {"metadata": {"m": 1}},
        {"delay": 500},
        {"delay": 600},
        {"expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
        {"payload": {"text": 'ä\u2028"\\ \x7f'}},
    ):
        job = await house.submit(**{**alike, **change})
        assert job == await house.get(job["id"]), change
    keyed = await house.submit("t.any", headers={"Idempotency-Key": "k"})
    assert keyed["idempotency_key"] == "k"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs", {"task": "t.any", **MANY}),
        ("/jobs/batch", {"jobs": [{"task": "t.any"}], **MANY}),
        ("/dead-letters/purge", {"filter": MANY}),
    ],
    ids=["submit", "batch", "filter"],
)
async def test_what_was_perhaps_meant_is_asked_for_a_few_names_only(
    house: House, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes its time, while nobody else has a turn."""
    asked: list[str] = []

    def meant(name: str, *_: object, **__: object) -> list[str]:
        asked.append(name)
        return []

    monkeypatch.setattr("difflib.get_close_matches", meant)
    answer = await house.http.post(path, json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == len(asked) == 50
