"""The HTTP client, against answers made up here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from taskflow.client import Client, PartlySubmitted, ProblemError, Unreachable, WaitRanOut
from taskflow.core.errors import TaskFlowError

Answer = Callable[[httpx2.Request], httpx2.Response]


class Api:
    """Answers with what is queued, and remembers what was asked."""

    def __init__(self) -> None:
        self.answers: list[httpx2.Response | Exception] = []
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """One request."""
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def will(self, *documents: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Queue JSON answers; the last is repeated."""
        self.answers = [httpx2.Response(status, json=document, headers=headers) for document in documents]

    @property
    def last(self) -> tuple[str, str, Any]:
        """Method, path with query, and body of the last request."""
        request = self.asked[-1]
        return request.method, request.url.raw_path.decode(), json.loads(request.content or b"null")


@pytest.fixture
def api() -> Api:
    """A fake API."""
    return Api()


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    """A client of it."""
    with Client("http://tasks.example/", "s3cret", transport=httpx2.MockTransport(api)) as made:
        yield made


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client meant to wait."""
    taken: list[float] = []
    monkeypatch.setattr("taskflow.client.http.time.sleep", taken.append)
    return taken


def test_a_submit_is_posted_with_its_key(client: Client, api: Api) -> None:
    """Numbers go as they are; the bearer key goes along."""
    api.will({"id": "1", "state": "queued"}, status=202)
    body = {"task": "t", "payload": {"n": 12345678901234567890123}}
    assert client.submit(body, key="once")["id"] == "1"
    assert api.last == ("POST", "/api/v1/jobs", body)
    headers = api.asked[0].headers
    assert (headers["Idempotency-Key"], headers["Authorization"]) == ("once", "Bearer s3cret")


def test_each_thing_has_its_path(client: Client, api: Api) -> None:
    """And a part of a path is quoted, whatever somebody calls it."""
    api.will({"items": [], "next_cursor": None})
    calls: list[tuple[Callable[[], Any], tuple[str, str, Any]]] = [
        (lambda: client.job("a/../b?c"), ("GET", "/api/v1/jobs/a%2F..%2Fb%3Fc", None)),
        (lambda: client.cancel("1"), ("POST", "/api/v1/jobs/1/cancel", None)),
        (lambda: client.replay("1"), ("POST", "/api/v1/jobs/1/replay", None)),
        (lambda: client.replay("1", {}), ("POST", "/api/v1/jobs/1/replay", {"payload": {}})),
        (lambda: client.jobs(state="failed", tag=None, limit=2), ("GET", "/api/v1/jobs?state=failed&limit=2", None)),
        (lambda: client.dead_letters(task="t"), ("GET", "/api/v1/dead-letters?task=t", None)),
        (lambda: client.replay_dead(["1"]), ("POST", "/api/v1/dead-letters/replay", {"ids": ["1"]})),
        (
            lambda: client.replay_dead(where={}, payload={"a": 1}),
            ("POST", "/api/v1/dead-letters/replay", {"filter": {}, "payload": {"a": 1}}),
        ),
        (lambda: client.purge_dead(["1"]), ("POST", "/api/v1/dead-letters/purge", {"ids": ["1"]})),
        (lambda: client.submit_many([{"task": "t"}]), ("POST", "/api/v1/jobs/batch", {"jobs": [{"task": "t"}]})),
        (client.queues, ("GET", "/api/v1/queues", None)),
        (lambda: client.pause("q", "why"), ("POST", "/api/v1/queues/q/pause", {"reason": "why"})),
        (lambda: client.resume("q"), ("POST", "/api/v1/queues/q/resume", None)),
        (client.tasks, ("GET", "/api/v1/tasks", None)),
        (client.workers, ("GET", "/api/v1/workers", None)),
    ]
    for call, asked in calls:
        call()
        assert api.last == asked


def test_many_jobs_are_submitted_in_requests_that_a_server_takes(client: Client, api: Api) -> None:
    """Each with a key of its own, each item with its place among all."""
    api.will(
        {"items": [{"index": 0, "status": 202}, {"index": 199, "status": 202}]},
        {"items": [{"index": 0, "status": 422}]},
    )
    items = client.submit_many([{"task": "t", "payload": {"n": n}} for n in range(201)], key="k")
    assert [(item["index"], item["status"]) for item in items] == [(0, 202), (199, 202), (200, 422)]
    assert [request.headers["Idempotency-Key"] for request in api.asked] == ["k", "k/200"]
    sizes = [len(json.loads(request.content)["jobs"]) for request in api.asked]
    assert sizes == [200, 1]


def test_large_jobs_are_submitted_in_smaller_requests(client: Client, api: Api) -> None:
    """A request has its limit in bytes as well."""
    api.will({"items": []})
    client.submit_many([{"task": "t", "payload": {"data": "x" * (1 << 20)}} for _ in range(20)])
    assert [len(json.loads(request.content)["jobs"]) for request in api.asked] == [7, 7, 6]
    assert max(len(request.content) for request in api.asked) < 8 << 20


def test_what_cannot_be_written_is_told_before_anything_is_submitted(client: Client, api: Api) -> None:
    """Wherever among many it stands."""
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        client.submit_many([*({"task": "t"} for _ in range(300)), {"task": "t", "payload": {"all": {1}}}])
    assert api.asked == []


def test_many_jobs_wait_for_the_rate_limit(client: Client, api: Api, naps: list[float]) -> None:
    """As long as the server says, in requests of the size that its burst allows."""
    api.answers = [
        httpx2.Response(207, json={"items": [{"index": 0, "status": 202}]}),
        httpx2.Response(429, json={"detail": "wait"}, headers={"Retry-After": "3"}),
        httpx2.Response(207, json={"items": [{"index": 0, "status": 202}]}),
    ]
    items = client.submit_many([{"task": "a"}, {"task": "b"}], size=1)
    assert [item["index"] for item in items] == [0, 1]
    assert [json.loads(request.content)["jobs"] for request in api.asked] == [[{"task": each}] for each in "abb"]
    assert naps == [3.0]


def test_what_was_submitted_is_not_lost_with_what_was_not(client: Client, api: Api) -> None:
    """The error of a later request tells of those before it."""
    api.answers = [httpx2.Response(207, json={"items": [{"index": 0, "status": 202}]}), httpx2.ConnectError("gone")]
    with pytest.raises(PartlySubmitted, match=r"from index 1 on were not accepted.*gone") as caught:
        client.submit_many([{"task": "a"}, {"task": "b"}], size=1)
    assert caught.value.items == [{"index": 0, "status": 202}]
    assert isinstance(caught.value.__cause__, Unreachable)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "Mon, 30 Nov 2026 10:00:00 GMT"}], ids=["never", "at a date"])
def test_a_first_request_that_is_refused_says_so_itself(client: Client, api: Api, headers: dict[str, str]) -> None:
    """Also where it does not say in seconds when to come back."""
    api.will({"detail": "no more"}, status=429, headers=headers)
    with pytest.raises(ProblemError, match="no more"):
        client.submit_many([{"task": "a"}])


def test_a_request_of_no_jobs_is_no_size(client: Client, api: Api) -> None:
    """It would submit nothing, and say nothing."""
    with pytest.raises(ValueError, match="at least one job, not -1"):
        client.submit_many([{"task": "a"}], size=-1)


def test_every_page_is_asked_for(client: Client, api: Api) -> None:
    """With the cursor of the one before."""
    api.will({"items": [{"id": "1"}], "next_cursor": "c1"}, {"items": [{"id": "2"}], "next_cursor": None})
    assert [job["id"] for job in client.all_jobs(task="t")] == ["1", "2"]
    assert api.last[1] == "/api/v1/jobs?task=t&cursor=c1"


def test_a_wait_asks_until_the_job_is_over(client: Client, api: Api) -> None:
    """By long polls, so that it is told at once."""
    api.will({"state": "queued"}, {"state": "running"}, {"state": "failed"})
    assert client.wait("1")["state"] == "failed"
    assert [request.headers["Prefer"] for request in api.asked] == ["wait=30"] * 3


def test_a_wait_runs_out(client: Client, api: Api) -> None:
    """With the state it saw last; a TimeoutError for those that expect one."""
    api.will({"state": "running"})
    started = time.monotonic()
    with pytest.raises(WaitRanOut, match=r"not over within 0\.05 s: it is running") as caught:
        client.wait("1", 0.05)
    assert isinstance(caught.value, TimeoutError)
    assert time.monotonic() - started < 2


def test_a_wait_of_no_time_looks_once(client: Client, api: Api) -> None:
    """A job that is over already is no timeout."""
    api.will({"state": "succeeded"})
    assert client.wait("1", 0)["state"] == "succeeded"


def test_a_log_is_followed_to_its_end(client: Client, api: Api) -> None:
    """Each poll goes on after the last line, and what comes with the end is not missed."""

    def lines(state: str, *messages: str) -> httpx2.Response:
        text = "".join(json.dumps({"message": message}) + "\n" for message in messages)
        return httpx2.Response(200, text=text, headers={"Taskflow-Logs": state})

    api.answers = [
        httpx2.Response(200, json={"state": "running"}),
        lines("pending", "1", "2"),
        httpx2.Response(200, json={"state": "succeeded"}),
        lines("pending", "3"),
        httpx2.Response(200, json={"state": "succeeded"}),
        lines("complete", "4"),
    ]
    assert [record["message"] for record in client.follow("x", poll=0)] == ["1", "2", "3", "4"]
    assert [request.url.params.get("after") for request in api.asked[1::2]] == [None, "2", "3"]


def test_a_truncated_log_of_a_running_job_goes_on(client: Client, api: Api) -> None:
    """Lines that were dropped are no end."""
    log = httpx2.Response(200, text='{"message": "x"}\n', headers={"Taskflow-Logs": "truncated"})
    api.answers = [
        httpx2.Response(200, json={"state": "running"}),
        log,
        httpx2.Response(200, json={"state": "failed"}),
        log,
    ]
    assert len(list(client.follow("x", poll=0))) == 2


def test_a_refusal_says_each_reason(client: Client, api: Api) -> None:
    """In words, and as the document it was."""
    errors = [{"pointer": "/task", "detail": "is unknown"}, {"pointer": "", "detail": "is odd"}]
    api.will({"status": 422, "detail": "does not fit", "errors": errors}, status=422)
    with pytest.raises(ProblemError) as caught:
        client.submit({})
    assert str(caught.value) == "does not fit\n  /task: is unknown\n  body: is odd"
    assert (caught.value.status, caught.value.document["errors"], caught.value.temporary) == (422, errors, False)


def test_an_error_that_is_no_problem_document_is_one_too(client: Client, api: Api) -> None:
    """A proxy in between answers as it likes."""
    api.answers = [httpx2.Response(502, text="<h1>Bad Gateway</h1>")]
    with pytest.raises(ProblemError, match="status 502: <h1>Bad Gateway") as caught:
        client.tasks()
    assert caught.value.status == 502


def test_bad_health_is_an_answer(client: Client, api: Api) -> None:
    """The store being gone is what was asked about."""
    api.will({"status": "down", "components": {}}, status=503)
    assert client.health()["status"] == "down"


@pytest.mark.parametrize(
    "failure", [httpx2.ConnectError("refused"), httpx2.ReadTimeout("slow"), httpx2.RemoteProtocolError("no HTTP")]
)
def test_nobody_there(client: Client, api: Api, failure: Exception) -> None:
    """Every failure of the line is one error, with the address and what to do."""
    api.answers = [failure]
    with pytest.raises(Unreachable, match=r"no TaskFlow answers at http://tasks.example: .*taskflow dev"):
        client.tasks()


def test_somebody_else_there(client: Client, api: Api) -> None:
    """An answer that is no JSON is none of ours."""
    api.answers = [httpx2.Response(200, text="hello")]
    with pytest.raises(Unreachable, match="is no TaskFlow"):
        client.tasks()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://", "http://[::1", "nonsense"])
def test_an_address_that_is_none(url: str) -> None:
    """Is refused before anything is asked."""
    with pytest.raises(TaskFlowError, match="is no address"):
        Client(url)


def test_a_key_that_no_header_can_carry() -> None:
    """The message does not show it."""
    with pytest.raises(TaskFlowError, match="cannot travel") as caught:
        Client("http://h", "schlüssel")
    assert "schl" not in str(caught.value)


def test_what_json_cannot_say_is_refused(client: Client, api: Api) -> None:
    """Here, and not by a traceback of the library."""
    api.will({})
    with pytest.raises(TaskFlowError, match="cannot be written"):
        client.submit({"task": "t", "payload": {"n": float("nan")}})
    with pytest.raises(ValueError, match="and not both"):
        client.purge_dead()
