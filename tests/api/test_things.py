"""Logs, artifacts, dead letters, queues, tasks, workers, health."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import orjson
import pytest

from taskflow.core.errors import ArtifactsUnavailable
from taskflow.core.ids import new_id
from taskflow.core.job import ErrorInfo
from taskflow.flow.capture import line
from taskflow.flow.logs import INDEXED
from taskflow.ports.store import ArtifactInfo, Segment
from taskflow.roles.api import logs
from tests.api.house import House
from tests.api.test_submit import pointers

NDJSON = {"Accept": "application/x-ndjson"}


async def write(house: House, job_id: str, epoch: int, *messages: str, seq: int = 1, truncated: bool = False) -> None:
    """Store lines as a worker does."""
    text = b"".join(line(epoch, "info", message, {"n": seq} if seq > 1 else {}, "ctx") for message in messages)
    key = f"logs/{new_id()}"
    await house.artifacts.put(key, b"others" + text + b"others")
    segment = Segment(job_id=job_id, epoch=epoch, seq=seq, object=key, offset=6, length=len(text), truncated=truncated)
    await house.store.add_segments([segment])


async def test_a_log_whose_object_is_gone_says_so(house: House) -> None:
    """In its place, and in the header; what is left is there."""
    job_id = await house.finished()
    await write(house, job_id, 1, "first")
    await write(house, job_id, 1, "second", seq=2)
    [segment, _] = await house.store.segments(job_id)
    await house.artifacts.delete(segment.object)
    answer = await house.http.get(f"/logs/{job_id}")
    assert (answer.status_code, answer.headers["taskflow-logs"]) == (200, "truncated")
    [gone, left] = answer.text.splitlines()
    assert "lines are missing here" in gone
    assert "second" in left


async def test_a_log_is_text_or_ndjson(house: House) -> None:
    """In the order of executions, by epoch, after so many lines; complete once the job is over."""
    job_id = await house.finished()
    await write(house, job_id, 2, "third", seq=2)
    await write(house, job_id, 1, "first", "second")
    answer = await house.http.get(f"/logs/{job_id}")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["taskflow-logs"] == "complete"
    lines = answer.text.splitlines()
    assert [text.split("] ")[1] for text in lines] == ["first", "second", "third n=2"]
    assert " INFO     [1] first" in lines[0]
    records = [
        orjson.loads(text) for text in (await house.http.get(f"/logs/{job_id}", headers=NDJSON)).text.splitlines()
    ]
    assert [(record["epoch"], record["message"]) for record in records] == [(1, "first"), (1, "second"), (2, "third")]
    for query, expected in [
        ("epoch=2", ["third"]),
        ("after=1", ["second", "third"]),
        ("after=2", ["third"]),
        ("after=9", []),
    ]:
        answer = await house.http.get(f"/logs/{job_id}?{query}", headers=NDJSON)
        assert [orjson.loads(text)["message"] for text in answer.text.splitlines()] == expected
    assert (await house.http.get(f"/logs/{job_id}?epoch=x&after=-1")).status_code == 400
    assert (await house.http.get(f"/logs/{new_id()}")).status_code == 404


async def test_control_characters_of_a_log_are_shown_not_sent(house: House) -> None:
    """Colours, line ends, C1 and direction marks; a tab stays."""
    job_id = await house.finished()
    await write(house, job_id, 1, "a\x1b[31mred\r\nb\tc\x9b\u202e\u2028d")
    answer = await house.http.get(f"/logs/{job_id}")
    assert answer.text.endswith("a\\x1b[31mred\\r\\nb\tc\\x9b\\u202e\\u2028d\n")
    assert answer.text.count("\n") == 1


async def test_a_log_says_how_whole_it_is(house: House) -> None:
    """Pending while the job runs or lines are on their way; truncated where some were dropped."""
    running = (await house.submit())["id"]
    answer = await house.http.get(f"/logs/{running}")
    assert (answer.text, answer.headers["taskflow-logs"]) == ("", "pending")
    job_id = await house.finished()
    house.lines.jobs.add(job_id)
    late = asyncio.create_task(house.http.get(f"/logs/{job_id}"))
    await write(house, job_id, 1, "last")
    house.lines.jobs.discard(job_id)
    answer = await late
    assert (answer.text.split("] ")[1], answer.headers["taskflow-logs"]) == ("last\n", "complete")
    await write(house, job_id, 1, "more", seq=2, truncated=True)
    assert (await house.http.get(f"/logs/{job_id}")).headers["taskflow-logs"] == "truncated"


async def test_the_last_lines_of_another_process_are_waited_for(house: House) -> None:
    """It cannot be asked what it holds, so it gets the time it needs; a job that ended long ago is complete at once."""
    house.lines.worker = None
    job_id = await house.finished()
    late = asyncio.create_task(house.http.get(f"/logs/{job_id}"))
    await write(house, job_id, 1, "last")
    answer = await late
    assert (answer.text.split("] ")[1], answer.headers["taskflow-logs"]) == ("last\n", "complete")
    job = await house.store.get("default", job_id)
    assert job is not None
    assert job.finished_at is not None
    assert await house.store.age(job.finished_at) >= INDEXED
    asked = time.monotonic()
    assert (await house.http.get(f"/logs/{job_id}")).headers["taskflow-logs"] == "complete"
    assert time.monotonic() - asked < 1
    assert house.deps.settings.logs_wait > INDEXED


async def test_an_object_store_that_is_away_is_503(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before half an answer is out."""
    job_id = await house.finished()
    await write(house, job_id, 1, "x")

    async def away(*_: Any) -> bytes:
        raise ArtifactsUnavailable("bucket at 10.0.0.7")

    monkeypatch.setattr(house.artifacts, "read", away)
    answer = await house.http.get(f"/logs/{job_id}")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("artifacts-unavailable")
    assert "10.0.0.7" not in answer.text


async def test_a_log_of_another_process_is_not_called_whole_while_the_store_is_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That process may keep all of it until the object store is back."""
    job_id = await house.finished()
    stat = house.artifacts.stat

    async def away(*_: Any) -> None:
        raise ArtifactsUnavailable("bucket at 10.0.0.7")

    monkeypatch.setattr(house.artifacts, "stat", away)
    assert (await house.http.get(f"/logs/{job_id}")).headers["taskflow-logs"] == "complete"
    house.lines.worker = None
    answer = await house.http.get(f"/logs/{job_id}")
    assert (answer.status_code, answer.headers["taskflow-logs"]) == (200, "pending")
    monkeypatch.setattr(house.artifacts, "stat", stat)
    assert (await house.http.get(f"/logs/{job_id}")).headers["taskflow-logs"] == "complete"


async def hung(*_: Any) -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def test_an_object_store_that_hangs_is_503_soon(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the client has lost its patience."""
    monkeypatch.setattr(logs, "FIRST", 0.2)
    job_id = await house.finished()
    await write(house, job_id, 1, "x")
    monkeypatch.setattr(house.artifacts, "read", hung)
    began = time.monotonic()
    answer = await house.http.get(f"/logs/{job_id}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"].endswith("artifacts-unavailable")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("gone", "status"), [(False, "complete"), (True, "truncated")])
async def test_a_log_that_can_be_read_is_answered_though_the_store_is_slow(
    house: House, monkeypatch: pytest.MonkeyPatch, gone: bool, status: str
) -> None:
    """Whether all of it is there is said as far as it was told in time."""
    monkeypatch.setattr(logs, "FIRST", 1.0)
    job_id = await house.finished()
    for seq, message in enumerate("abc", 1):
        await write(house, job_id, 1, message, seq=seq)
    asked = [segment.object for segment in await house.store.segments(job_id)]
    if gone:
        await house.artifacts.delete(asked[2])
    stat, hanging = house.artifacts.stat, []

    async def slow(key: str) -> Any:
        if key == asked[1]:
            hanging.append(key)
            await hung()
        return await stat(key)

    monkeypatch.setattr(house.artifacts, "stat", slow)
    answer = await house.http.get(f"/logs/{job_id}")
    assert hanging == asked[1:2]
    assert (answer.status_code, answer.headers["taskflow-logs"]) == (200, status)
    assert [text.split("] ")[1].split()[0] for text in answer.text.splitlines()] == ["a", "b", "lines" if gone else "c"]


async def keep(house: House, job_id: str, name: str, data: bytes, kind: str = "text/plain") -> None:
    """Keep a file as a worker does."""
    key = f"artifacts/{new_id()}"
    await house.artifacts.put(key, data)
    digest = hashlib.sha256(data).hexdigest()
    info = ArtifactInfo(job_id=job_id, name=name, object=key, content_type=kind, size=len(data), sha256=digest)
    await house.store.put_artifact(info)


async def test_artifacts_are_listed_and_downloaded(house: House) -> None:
    """As attachments that no browser runs, whatever they say they are."""
    job_id = await house.finished()
    data = b"<script>" * 300_000
    await keep(house, job_id, "out/page.html", data, "text/html")
    await keep(house, job_id, "odd", b"x", "text/plain\r\nset-cookie: a=b")
    listed = (await house.http.get(f"/jobs/{job_id}/artifacts")).json()["items"]
    assert [(item["name"], item["size"]) for item in listed] == [("odd", 1), ("out/page.html", len(data))]
    answer = await house.http.get(f"/jobs/{job_id}/artifacts/out/page.html")
    assert answer.content == data
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''page.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["content-type"] == "text/html"
    tag = {"If-None-Match": answer.headers["etag"]}
    assert (await house.http.get(f"/jobs/{job_id}/artifacts/out/page.html", headers=tag)).status_code == 304
    head = await house.http.head(f"/jobs/{job_id}/artifacts/out/page.html")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
    odd = await house.http.get(f"/jobs/{job_id}/artifacts/odd")
    assert odd.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in odd.headers
    assert (await house.http.get(f"/jobs/{job_id}/artifacts/none")).status_code == 404
    assert (await house.http.get(f"/jobs/{job_id}/artifacts/..%2F..%2Fetc")).status_code == 404


async def test_dead_letters_are_listed_by_filter(house: House) -> None:
    """Failed jobs only, as job documents."""
    first = await house.failed(task="t.add", payload={"a": 1})
    second = await house.failed(ErrorInfo("KeyError", "x"))
    await house.finished()

    async def found(query: str) -> list[str]:
        return [job["id"] for job in (await house.http.get(f"/dead-letters?{query}")).json()["items"]]

    assert await found("") == [second, first]
    assert await found("task=t.add") == [first]
    assert await found("error_type=KeyError") == [second]
    assert await found("error_type=Other") == []
    assert (await house.http.get("/dead-letters?state=failed")).status_code == 400
    page = (await house.http.get("/dead-letters?limit=1")).json()
    assert page["items"][0]["error"] == {"type": "KeyError", "message": "x", "traceback": None}
    assert await found(f"limit=1&cursor={page['next_cursor']}") == [first]


async def test_dead_letters_are_replayed_by_id(house: House) -> None:
    """Each with an outcome of its own; those that cannot be say why."""
    good, misfit = await house.failed(), await house.failed(task="t.none")
    done, unknown = await house.finished(), new_id()
    house.tickets.offered.clear()
    answer = await house.http.post(
        "/dead-letters/replay", json={"ids": [good, misfit, done, unknown, good], "payload": {"a": 2}}
    )
    assert answer.status_code == 207
    outcomes = {item["id"]: item["status"] for item in answer.json()["items"]}
    assert outcomes == {good: 200, misfit: 422, done: 409, unknown: 404}
    assert (await house.get(good))["payload"] == {"a": 2}
    assert (await house.get(misfit))["state"] == "failed"
    assert [ticket.job_id for ticket in house.tickets.offered] == [good]


async def test_dead_letters_are_replayed_by_filter(house: House) -> None:
    """Every one that matches, also beyond one page."""
    ids = {await house.failed() for _ in range(60)}
    other = await house.failed(ErrorInfo("KeyError", "x"))
    answer = (await house.http.post("/dead-letters/replay", json={"filter": {"error_type": "ValueError"}})).json()
    assert ({item["id"] for item in answer["items"]}, answer["more"]) == (ids, False)
    assert {item["status"] for item in answer["items"]} == {200}
    assert (await house.get(other))["state"] == "failed"
    answer = (await house.http.post("/dead-letters/replay", json={"filter": {}})).json()
    assert [item["id"] for item in answer["items"]] == [other]


async def test_dead_letters_are_purged_with_their_files(house: House) -> None:
    """Gone for good; what has not failed stays."""
    dead, done = await house.failed(), await house.finished()
    await keep(house, dead, "a", b"x")
    [artifact] = await house.store.artifacts(dead)
    answer = await house.http.post("/dead-letters/purge", json={"ids": [dead, done]})
    assert [item["status"] for item in answer.json()["items"]] == [200, 409]
    assert (await house.http.get(f"/jobs/{dead}")).status_code == 404
    assert await house.artifacts.stat(artifact.object) is None
    assert (await house.get(done))["state"] == "succeeded"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [""]),
        ({"ids": [], "filter": {}}, [""]),
        ({"ids": []}, ["/ids"]),
        ({"ids": ["x", 1]}, ["/ids/0", "/ids/1"]),
        ({"ids": [new_id()] * 1_001}, ["/ids"]),
        ({"filter": []}, ["/filter"]),
        ({"filter": {"taks": "a", "queue": 1, "task": "a b"}}, ["/filter/taks", "/filter/queue", "/filter/task"]),
        ({"filter": {"error_type": "\x1b", "created_after": "x"}}, ["/filter/error_type", "/filter/created_after"]),
        ({"filter": {}, "dry": True}, ["/dry"]),
    ],
)
@pytest.mark.parametrize("verb", ["replay", "purge"])
async def test_a_bulk_action_says_clearly_what_it_is_for(
    house: House, verb: str, body: Any, expected: list[str]
) -> None:
    """422 names what is wrong; nothing is touched."""
    dead = await house.failed()
    answer = await house.http.post(f"/dead-letters/{verb}", json=body)
    assert (answer.status_code, pointers(answer)) == (422, expected)
    assert (await house.get(dead))["state"] == "failed"


async def test_queues_are_made_paused_and_resumed(house: House) -> None:
    """201 once, then 200; each change is an event; jobs may be submitted to a new one at once."""
    async with house.events.subscribe("queues") as news:
        answer = await house.http.post("/queues", json={"name": "new"})
        assert await anext(news) == ("queues", b"new")
    assert (answer.status_code, answer.headers["location"]) == (201, "/api/v1/queues/new")
    assert (await house.http.post("/queues", json={"name": "new"})).status_code == 200
    await house.submit(queue="new")
    answer = await house.http.post("/queues/new/pause", json={"reason": "flood"})
    assert answer.json() == {
        "name": "new", "paused": True, "pause_reason": "flood", "depth": 1, "running": 0, "oldest": answer.json()["oldest"],
    }  # fmt: skip
    assert (await house.http.post("/queues/new/pause")).json()["pause_reason"] is None
    typed = {"content-type": "application/json"}
    assert (await house.http.post("/queues/new/pause", headers=typed)).status_code == 200
    assert (await house.http.post("/queues/new/resume")).json()["paused"] is False
    assert [queue["name"] for queue in (await house.http.get("/queues")).json()["items"]] == ["default", "new"]
    assert (await house.http.get("/queues/new")).json()["depth"] == 1
    for path in ("/queues/none", "/queues/a%20b"):
        assert (await house.http.get(path)).status_code == 404
        assert (await house.http.post(path + "/pause")).status_code == 404
        assert (await house.http.post(path + "/resume")).status_code == 404


@pytest.mark.parametrize("payload", [[], "x", {"a": "x" * (1 << 20)}])
async def test_a_bulk_replay_with_no_good_payload_is_refused_whole(house: House, payload: Any) -> None:
    """422, also where nothing matches."""
    answer = await house.http.post("/dead-letters/replay", json={"filter": {}, "payload": payload})
    assert (answer.status_code, pointers(answer)) == (422, ["/payload"])


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a b"}, {"name": "amq.x"}, {"name": 1}, {"name": "é"}])
async def test_a_queue_has_a_good_name(house: House, body: Any) -> None:
    """422, and it is not made."""
    assert pointers(await house.http.post("/queues", json=body)) == ["/name"]
    assert len((await house.http.get("/queues")).json()["items"]) == 1


async def test_a_pause_takes_a_reason_only(house: House) -> None:
    """422 for another field and for a reason that is none."""
    assert pointers(await house.http.post("/queues/default/pause", json={"reason": ""})) == ["/reason"]
    assert pointers(await house.http.post("/queues/default/pause", json={"until": 1})) == ["/until"]
    assert (await house.http.post("/queues/default/pause", content=b"{}")).status_code == 415


async def test_tasks_and_workers_are_listed(house: House) -> None:
    """What can run, and who runs it."""
    tasks = {task["name"]: task for task in (await house.http.get("/tasks")).json()["items"]}
    assert tasks["t.add"]["schema"]["required"] == ["a"]
    assert (tasks["t.add"]["live_workers"], tasks["t.add"]["runs_in"]) == (1, "async")
    [worker] = (await house.http.get("/workers")).json()["items"]
    assert (worker["id"], worker["state"], worker["slots"], worker["lease"]) == ("w1", "alive", {"async": 10}, 30.0)


async def test_health_names_each_component(house: House) -> None:
    """200 ok or degraded, 503 where the store is gone; ready is about this process's roles."""
    answer = await house.http.get("/health")
    assert answer.json() == {
        "status": "ok", "version": "1.2.3", "components": {"store": {"status": "ok"}, "broker": {"status": "ok"}},
    }  # fmt: skip
    assert (await house.http.get("/health/live")).json() == {"status": "ok"}
    assert (await house.http.get("/health/ready")).json() == {"status": "ready", "roles": {"api": "ready"}}
    house.ready["consumer"] = "not registered"
    answer = await house.http.get("/health/ready")
    assert (answer.status_code, answer.json()["roles"]["consumer"]) == (503, "not registered")


@pytest.mark.parametrize(("component", "status"), [("broker", (200, "degraded")), ("store", (503, "down"))])
async def test_health_is_down_with_the_store_only(house: House, component: str, status: tuple[int, str]) -> None:
    """Another component only degrades it."""
    house.health[component] = "does not answer"
    answer = await house.http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == status
    assert answer.json()["components"][component] == {"status": "down", "detail": "does not answer"}
