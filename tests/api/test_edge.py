"""What holds for every request: ids, keys, limits, methods, errors."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from taskflow.core.errors import StoreUnavailable
from taskflow.ports.limiter import Rate
from taskflow.roles.api import answer as answers
from taskflow.roles.api.answer import Answer
from taskflow.roles.api.client import Proxies, bucket
from taskflow.roles.api.openapi import describe
from taskflow.roles.api.routes import api_routes
from tests.api.house import House, opened
from tests.api.test_submit import JSON, pointers
from tests.api.test_things import keep

KEY = "k-1234567890"


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[House]:
    """An API that wants a key."""
    hashed = "sha256:6ca13d52ca70c883e0f0bb101e425a89e8624de51db2d2392593af6a84118090"  # of abc123
    async with opened(tmp_path, keys=(KEY, hashed)) as made:
        yield made


@pytest.mark.parametrize("given", ["abc-1.2:3", "x" * 128])
async def test_a_request_id_is_kept(house: House, given: str) -> None:
    """On good answers and on errors."""
    for path in ("/jobs", "/jobs/none", "/nowhere"):
        answer = await house.http.get(path, headers={"X-Request-Id": given})
        assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "a\x01", "é"])
async def test_a_request_id_is_made_where_none_is_good(house: House, given: str | None) -> None:
    """What could break a log line is not taken."""
    headers = {} if given is None else {b"x-request-id": given.encode()}
    answer = await house.http.get("/jobs", headers=headers)
    assert re.fullmatch("[0-9a-f]{24}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/jobs", "GET, HEAD, POST"),
        ("GET", "/jobs/batch/cancel", "POST"),
        ("PUT", "/health", "GET, HEAD"),
        ("OPTIONS", "/queues", "GET, HEAD, POST"),
        ("BREW", "/workers", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_405_with_those_that_are_right(
    house: House, method: str, path: str, allow: str
) -> None:
    """As a problem document."""
    answer = await house.http.request(method, path)
    assert (answer.status_code, pointers(answer), answer.headers["allow"]) == (405, [], allow)


@pytest.mark.parametrize("path", ["/nowhere", "/jobs/", "//jobs", "/api/v2"])
async def test_an_unknown_path_is_a_404_problem(house: House, path: str) -> None:
    """No redirects, no plain text."""
    answer = await house.http.get(path)
    assert (answer.status_code, pointers(answer)) == (404, [])


async def test_every_get_answers_head(house: House) -> None:
    """With the headers of the GET and no body."""
    job_id = await house.finished()
    paths = ["/jobs", f"/jobs/{job_id}", f"/logs/{job_id}", "/tasks", "/health", "/nowhere"]
    for path in [*paths, "http://here/openapi.json", "http://here/docs"]:
        got, head = await house.http.get(path), await house.http.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers.get("content-length") == got.headers.get("content-length")


async def test_what_nobody_expected_is_a_bare_500(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is in the log under the request's id, and nowhere else."""

    async def broken(*_: Any) -> None:
        raise RuntimeError("secret SQL of host db7")

    monkeypatch.setattr(house.store, "get", broken)
    with caplog.at_level(logging.ERROR):
        answer = await house.http.get(f"/jobs/{'0' * 8}-0000-0000-0000-{'0' * 12}", headers={"X-Request-Id": "find-me"})
    assert (answer.status_code, pointers(answer)) == (500, [])
    assert "db7" not in answer.text
    assert "find-me" in caplog.text
    assert "db7" in caplog.text


async def test_a_store_that_is_away_is_503(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Retry-After, and without its words."""

    async def away(*_: Any) -> None:
        raise StoreUnavailable("host db7")

    monkeypatch.setattr(house.store, "find", away)
    answer = await house.http.get("/jobs")
    assert (answer.status_code, pointers(answer), answer.headers["retry-after"]) == (503, [], "1")
    assert "db7" not in answer.text


async def test_a_handler_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 where the store says nothing; a submit says under which id its job may turn up."""
    async with opened(tmp_path, deadline=0.05) as house:

        async def silent(*_: Any) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(house.store, "find", silent)
        monkeypatch.setattr(house.deps.submitter, "submit", silent)
        assert (await house.http.get("/jobs")).status_code == 503
        submitted = await house.http.post("/jobs", json={"task": "t.any"})
        assert submitted.status_code == 503
        assert "whether job " in submitted.json()["detail"]


async def test_a_body_that_does_not_come_is_408(tmp_path: Path) -> None:
    """Whoever sends a byte a minute holds nothing."""
    async with opened(tmp_path, deadline=0.05) as house:

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        sent: list[dict[str, Any]] = []
        chunks = slow()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/v1/jobs",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        await house.app(scope, receive, send)
        assert sent[0]["status"] == 408


async def test_long_urls_and_many_headers_are_refused(house: House) -> None:
    """414 and 431, before anything is looked at."""
    assert (await house.http.get("/jobs?tag=" + "x" * 9_000)).status_code == 414
    assert (await house.http.get("/jobs", headers={"x": "y" * 17_000})).status_code == 431
    many = [(f"x-{n}", "y") for n in range(101)]
    assert (await house.http.get("/jobs", headers=many)).status_code == 431


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://here", "Sec-Fetch-Site": "same-origin"}, 202),
        ({}, 202),
    ],
)
async def test_a_page_of_another_site_changes_nothing(house: House, headers: dict[str, str], status: int) -> None:
    """It may not even ask for a cancel, which needs no body."""
    answer = await house.http.post("/jobs", json={"task": "t.any"}, headers=headers)
    assert answer.status_code == status
    assert await house.count() == (status == 202)


async def test_a_key_opens_the_api(locked: House) -> None:
    """In clear or hashed in the settings; 401 with a challenge without one or with a wrong one."""
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}, {"Authorization": KEY}):
        answer = await locked.http.get("/jobs", headers=headers)
        assert (answer.status_code, pointers(answer)) == (401, [])
        assert answer.headers["www-authenticate"].startswith("Bearer")
    for key in (KEY, "abc123"):
        assert (await locked.http.get("/jobs", headers={"Authorization": f"bearer {key}"})).status_code == 200


async def test_every_route_but_the_probes_wants_the_key(locked: House) -> None:
    """Whatever is added later is closed unless it says otherwise."""
    opened_paths = set()
    routes = api_routes(locked.deps, None)  # type: ignore[arg-type]
    for path, handlers in routes.items():
        for method in handlers:
            answer = await locked.http.request(method, "http://here" + re.sub(r"{.*?}", "x", path))
            if answer.status_code != 401:
                opened_paths.add(path)
    assert opened_paths == {"/api/v1/health/live", "/api/v1/health/ready"}
    described = describe(routes, version="1", keyed=True, limited=False)
    assert described["paths"]["/api/v1/jobs"]["get"]["security"] == [{"key": []}]
    assert "security" not in described["paths"]["/api/v1/health/live"]["get"]


async def test_guessing_keys_is_limited(locked: House) -> None:
    """429 from an address after some wrong ones; the right one still opens."""
    wrong = {"Authorization": "Bearer wrong"}
    statuses = [(await locked.http.get("/jobs", headers=wrong)).status_code for _ in range(25)]
    assert statuses == [401] * 20 + [429] * 5
    assert (await locked.http.get("/jobs", headers={"Authorization": f"Bearer {KEY}"})).status_code == 200


async def test_posts_are_limited_by_client(tmp_path: Path) -> None:
    """429 with Retry-After; every counted answer says what is left; looking is free."""
    async with opened(tmp_path, rate=Rate(1, 60.0, 2), trusted_proxies=("127.0.0.1",)) as house:
        headers = {"X-Forwarded-For": "9.9.9.9, 1.2.3.4"}
        first = await house.http.post("/jobs", json={"task": "t.any"}, headers=headers)
        assert first.headers["ratelimit-policy"] == '"post";q=2;w=120'
        assert first.headers["ratelimit"] == '"post";r=1;t=60'
        await house.http.post("/queues/default/pause", headers=headers)
        over = await house.http.post("/jobs", json={"task": "t.any"}, headers=headers)
        assert (over.status_code, pointers(over)) == (429, [])
        assert over.headers["ratelimit"].startswith('"post";r=0;t=')
        assert 1 <= int(over.headers["retry-after"]) <= 60
        assert (await house.http.get("/jobs", headers=headers)).status_code == 200
        other = {"X-Forwarded-For": "1.2.3.4, 9.9.9.9"}
        assert (await house.http.post("/jobs", json={"task": "t.any"}, headers=other)).status_code == 202
        assert await house.count() == 2


async def test_a_batch_costs_as_many_as_it_holds(tmp_path: Path) -> None:
    """And one that could never pass is refused as such."""
    async with opened(tmp_path, rate=Rate(1, 60.0, 5)) as house:
        jobs = [{"task": "t.any"}] * 6
        assert (await house.http.post("/jobs/batch", json={"jobs": jobs})).status_code == 422
        assert (await house.http.post("/jobs/batch", json={"jobs": jobs[:3]})).status_code == 207
        assert (await house.http.post("/jobs/batch", json={"jobs": jobs[:3]})).status_code == 429
        assert await house.count() == 3


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ((), "5.5.5.5", "1.1.1.1", "5.5.5.5"),
        (("10.0.0.0/8",), "5.5.5.5", "1.1.1.1", "5.5.5.5"),
        (("10.0.0.0/8",), "10.0.0.1", "", "10.0.0.1"),
        (("10.0.0.0/8",), "10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (("10.0.0.0/8",), "10.0.0.1", "6.6.6.6, 1.1.1.1,10.0.0.2", "1.1.1.1"),
        (("10.0.0.0/8",), "10.0.0.1", "10.0.0.3", "10.0.0.3"),
        (("10.0.0.0/8",), "10.0.0.1", "<script>", "<script>"),
        (("::1",), "::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ],
)
def test_a_client_is_whom_a_trusted_proxy_names(
    trusted: tuple[str, ...], peer: str, forwarded: str, client: str
) -> None:
    """The right-most address that is no proxy of ours; what stands left of it is anybody's invention."""
    assert Proxies(trusted).client({"client": (peer, 1)}, forwarded) == client


def test_an_ipv6_subscriber_is_one_client() -> None:
    """Whichever of its addresses it uses; a mapped IPv4 address is that address."""
    assert bucket("2001:db8::1") == bucket("2001:db8::ffff") == "2001:db8::/64"
    assert bucket("::ffff:1.2.3.4") == "1.2.3.4"
    assert bucket("local") == "local"


async def test_a_stream_that_stands_still_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is held for ever."""
    monkeypatch.setattr(answers, "STEP_DEADLINE", 0.02)

    async def still() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def send(_: Any) -> None:
        pass

    with pytest.raises(TimeoutError):
        await Answer(200, b"", (), still()).send(send)


async def test_an_answer_that_breaks_half_way_is_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """No second answer is written into the first."""

    async def half(_: str) -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("gone")

    job_id = await house.finished()
    await keep(house, job_id, "a", b"xyz")
    monkeypatch.setattr(house.artifacts, "open", half)
    transport = httpx2.ASGITransport(app=house.app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://here") as http:
        with pytest.raises(OSError, match="gone"):
            await http.get(f"/api/v1/jobs/{job_id}/artifacts/a")


async def test_a_websocket_is_closed(house: House) -> None:
    """There is none here."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await house.app({"type": "websocket", "path": "/api/v1/jobs", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_a_client_that_hangs_up_costs_nothing(house: House) -> None:
    """No answer, no error, no job."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in JSON.items()]
    scope = {"type": "http", "method": "POST", "path": "/api/v1/jobs", "query_string": b"", "headers": headers}
    await house.app(scope, receive, send)
    assert sent == []
    assert await house.count() == 0
