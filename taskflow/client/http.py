"""The API over HTTP, one method a thing that can be asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote

import httpx2

from taskflow.client.documents import (
    HealthDocument,
    JobDocument,
    OutcomeDocument,
    Page,
    QueueDocument,
    TaskDocument,
    WorkerDocument,
)
from taskflow.client.errors import PartlySubmitted, ProblemError, WaitRanOut
from taskflow.client.transport import TIMEOUT, Transport
from taskflow.core.errors import TaskFlowError
from taskflow.core.job import State

LONG_POLL: Final = 30.0
POLL: Final = 0.5
KEY_LENGTH: Final = 255
TOGETHER: Final = 200
"""Jobs a request: the burst of a server that was told nothing else."""
PATIENCE: Final = 60.0
"""Seconds that a rate limit may ask for: who means longer means another time."""
BYTES: Final = 8 << 20
"""Of the jobs in a request: half of what the server takes."""
NDJSON: Final = "application/x-ndjson"


class Client:
    """Talks to one TaskFlow. Every method raises `Unreachable` or `ProblemError`.

    Args:
        url: its address, such as `http://127.0.0.1:8000`.
        key: a bearer key, where it wants one.
        timeout: seconds to connect, and to wait for more of an answer.
        transport: what carries requests; for tests.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(url, key, timeout, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def get(self, path: str, **params: Any) -> Any:
        """A document below `/api/v1`; `None` parameters are left out."""
        return self._transport.document("GET", path, params=params)

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """The answer to a post below `/api/v1`."""
        return self._transport.document("POST", path, body=body, headers=headers)

    def submit(self, body: Mapping[str, Any], *, key: str | None = None) -> JobDocument:
        """Submit a job.

        Args:
            body: `task`, `payload` and the other fields of a submit.
            key: makes a repeated submit the same submit.
        """
        headers = None if key is None else {"Idempotency-Key": key}
        return cast("JobDocument", self.post("/jobs", body, headers))

    def submit_many(
        self, bodies: Sequence[Mapping[str, Any]], *, key: str | None = None, size: int = TOGETHER
    ) -> list[dict[str, Any]]:
        """Submit any number of jobs; each item has `index`, `status` and `job` or `problem`.

        Where the rate limit is used up, it waits as long as the server says, and goes on.

        Args:
            bodies: `task`, `payload` and the other fields of a submit, for each.
            key: makes a repeated call, of the same jobs and `size`, the same one; the requests behind the first add the index
                that they begin with.
            size: most jobs a request. The server refuses more than 1,000, and more than the burst of its rate limit.

        Raises:
            PartlySubmitted: a request behind the first failed; with a key, the same call may simply be made again.
        """
        if size < 1:
            raise ValueError(f"a request holds at least one job, not {size}")
        # All of them, so that what cannot be written is told before anything is submitted.
        parts = list(_parts(bodies, size))
        last = f"{key}/{parts[-1][0]}"
        if key is not None and len(parts) > 1 and len(last) > KEY_LENGTH:
            raise ValueError(
                f"the key must leave room for {last[len(key) :]!r}: at most {KEY_LENGTH} characters together"
            )
        items: list[dict[str, Any]] = []
        for start, part in parts:
            headers = None if key is None else {"Idempotency-Key": f"{key}/{start}" if start else key}
            try:
                answer = self._in_turn("/jobs/batch", {"jobs": part}, headers)
            except TaskFlowError as error:
                if not items:
                    raise
                raise PartlySubmitted(items, error) from error
            items += [{**item, "index": start + item["index"]} for item in answer["items"]]
        return items

    def job(self, job_id: str, wait: float | None = None) -> JobDocument:
        """A job, as it is or as it is after at most `wait` seconds (60 at most)."""
        headers = None if wait is None else {"Prefer": f"wait={max(1, round(wait))}"}
        path = f"/jobs/{_part(job_id)}"
        return cast("JobDocument", self._transport.document("GET", path, headers=headers, wait=wait or 0.0))

    def wait(self, job_id: str, seconds: float | None = None) -> JobDocument:
        """A job at its end.

        Raises:
            WaitRanOut: it was not over within `seconds`.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = LONG_POLL if end is None else min(LONG_POLL, end - time.monotonic())
            job = self.job(job_id, left if left > 0 else None)
            if State(job["state"]).terminal:
                return job
            if end is not None and time.monotonic() >= end:
                raise WaitRanOut(f"job {job_id} was not over within {seconds:g} s: it is {job['state']}")

    def jobs(self, **filters: Any) -> Page[JobDocument]:
        """A page of jobs: `state`, `task`, `queue`, `tag`, `created_after`, `created_before`, `order`, `limit`, `cursor`."""
        return cast("Page[JobDocument]", self.get("/jobs", **filters))

    def all_jobs(self, **filters: Any) -> Iterator[JobDocument]:
        """Every job that fits, page after page."""
        cursor: str | None = None
        while True:
            page = self.jobs(**filters, cursor=cursor)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def cancel(self, job_id: str) -> JobDocument:
        """Ask for a job's cancellation; a running one is told."""
        return cast("JobDocument", self.post(f"/jobs/{_part(job_id)}/cancel"))

    def replay(self, job_id: str, payload: Mapping[str, Any] | None = None) -> JobDocument:
        """Run a failed job again, with another payload if one is given."""
        body = None if payload is None else {"payload": payload}
        return cast("JobDocument", self.post(f"/jobs/{_part(job_id)}/replay", body))

    def logs(self, job_id: str, *, after: int = 0, epoch: int | None = None) -> tuple[str, str]:
        """Text of a job's log after so many lines, and `pending`, `complete` or `truncated`."""
        answer = self._log(job_id, after, epoch, "text/plain")
        return answer.text, answer.headers.get("Taskflow-Logs", "complete")

    def log_records(self, job_id: str, *, after: int = 0, epoch: int | None = None) -> tuple[list[dict[str, Any]], str]:
        """Lines of a job's log as documents (`ts`, `epoch`, `level`, `message`, `source`, `fields`), and how it stands."""
        answer = self._log(job_id, after, epoch, NDJSON)
        records = [json.loads(line) for line in answer.content.splitlines() if line]
        return records, answer.headers.get("Taskflow-Logs", "complete")

    def follow(self, job_id: str, *, epoch: int | None = None, poll: float = POLL) -> Iterator[dict[str, Any]]:
        """Lines of a job's log as they come, until the job is over."""
        seen = 0
        while True:
            # Asked before reading: what an ended job wrote is then in what is read.
            over = State(self.job(job_id)["state"]).terminal
            records, state = self.log_records(job_id, after=seen, epoch=epoch)
            yield from records
            seen += len(records)
            if over and state != "pending":
                return
            time.sleep(poll)

    def dead_letters(self, **filters: Any) -> Page[JobDocument]:
        """A page of failed jobs: `task`, `queue`, `error_type`, `limit`, `cursor`."""
        return cast("Page[JobDocument]", self.get("/dead-letters", **filters))

    def replay_dead(
        self,
        ids: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> list[OutcomeDocument]:
        """Replay failed jobs by id, or those that fit `where` (`task`, `queue`, `error_type`), 1,000 at most."""
        more = {} if payload is None else {"payload": payload}
        return self._dead("replay", {**_chosen(ids, where), **more})

    def purge_dead(self, ids: Sequence[str] = (), where: Mapping[str, str] | None = None) -> list[OutcomeDocument]:
        """Delete failed jobs by id, or those that fit `where`, 1,000 at most."""
        return self._dead("purge", _chosen(ids, where))

    def queues(self) -> list[QueueDocument]:
        """Every queue."""
        return cast("list[QueueDocument]", self.get("/queues")["items"])

    def pause(self, queue: str, reason: str | None = None) -> QueueDocument:
        """Start no more jobs of a queue."""
        return cast("QueueDocument", self.post(f"/queues/{_part(queue)}/pause", {"reason": reason}))

    def resume(self, queue: str) -> QueueDocument:
        """Start jobs of a queue again."""
        return cast("QueueDocument", self.post(f"/queues/{_part(queue)}/resume"))

    def tasks(self) -> list[TaskDocument]:
        """Every task that can be submitted."""
        return cast("list[TaskDocument]", self.get("/tasks")["items"])

    def workers(self) -> list[WorkerDocument]:
        """Workers alive, and those that ended lately."""
        return cast("list[WorkerDocument]", self.get("/workers")["items"])

    def health(self) -> HealthDocument:
        """Each component's status; an answer also where the store is gone."""
        return cast("HealthDocument", self._transport.document("GET", "/health", accepted=frozenset({503})))

    def _in_turn(self, path: str, body: Any, headers: Mapping[str, str] | None) -> Any:
        """A post that waits until the rate limit lets it pass."""
        while True:
            try:
                return self.post(path, body, headers)
            except ProblemError as error:
                if error.status != 429 or error.retry_after is None or error.retry_after > PATIENCE:
                    raise
                time.sleep(error.retry_after)

    def _log(self, job_id: str, after: int, epoch: int | None, kind: str) -> httpx2.Response:
        params = {"after": after or None, "epoch": epoch}
        return self._transport.ask("GET", f"/logs/{_part(job_id)}", params=params, headers={"Accept": kind}, wait=5.0)

    def _dead(self, verb: str, body: Mapping[str, Any]) -> list[OutcomeDocument]:
        return cast("list[OutcomeDocument]", self.post(f"/dead-letters/{verb}", body)["items"])


def _parts(bodies: Sequence[Mapping[str, Any]], size: int) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """Requests, each with the index of its first job. One without jobs is the server's to refuse."""
    part: list[Mapping[str, Any]] = []
    start = weight = 0
    for index, body in enumerate(bodies):
        more = len(json.dumps(body))
        if part and (len(part) == size or weight + more > BYTES):
            yield start, part
            start, weight, part = index, 0, []
        weight += more
        part.append(body)
    yield start, part


def _part(text: str) -> str:
    """A part of a path, whatever it is."""
    return quote(text, safe="") or "-"


def _chosen(ids: Sequence[str], where: Mapping[str, str] | None) -> dict[str, Any]:
    if bool(ids) == (where is not None):
        raise ValueError("name ids or a filter, and not both")
    return {"ids": list(ids)} if ids else {"filter": dict(where or {})}
