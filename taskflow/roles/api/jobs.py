"""Jobs one by one and as a list: look, wait, cancel, replay."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request

from taskflow.core.errors import FieldError, Invalid
from taskflow.core.ids import is_id
from taskflow.core.job import Job, State
from taskflow.core.limits import DEFAULT_TENANT, PAYLOAD_BYTES
from taskflow.flow.admit import payload_errors
from taskflow.flow.catalog import MISS
from taskflow.roles.api import schemas
from taskflow.roles.api.answer import JSON, NO_CACHE, Answer, Header, etag_of, json_answer, matches
from taskflow.roles.api.body import Bodies
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.documents import immutable, job_document, listed
from taskflow.roles.api.operation import Parameter, op
from taskflow.roles.api.prefer import Waiting, wanted
from taskflow.roles.api.problems import conflict, not_found
from taskflow.roles.api.query import LIST, job_query, next_cursor
from taskflow.tasks.jsonread import Document

CACHED: Final = 600.0
"""Seconds that a document is cached, and so longest that one is served after retention deleted its job."""
PAGE_BYTES: Final = 8 << 20
"""A page ends early when its documents are this large together."""


def cache_key(namespace: str, job_id: str) -> str:
    """Where the document of a job that is over is cached."""
    return f"{namespace}:job:{DEFAULT_TENANT}:{job_id}"


class JobRoutes:
    """Jobs that are there."""

    def __init__(self, deps: ApiDeps, bodies: Bodies) -> None:
        self._deps = deps
        self._bodies = bodies
        self._waiting = Waiting(self._read, deps.events, deps.stop.asked, deps.settings.waiters_max)

    @op(
        "Get a job",
        tag="jobs",
        answers={200: schemas.Job, 304: None},
        parameters=[
            Parameter("Prefer", {"type": "string"}, "`wait=30` holds the answer until the job is over.", "header"),
            Parameter("If-None-Match", {"type": "string"}, "ETag of a document that the client has.", "header"),
        ],
        problems=(404, 503),
        headers={200: {"ETag": "Where the job can never change again.", "Preference-Applied": "`wait=n`"}},
    )
    async def get(self, request: Request) -> Answer:
        """With `Prefer: wait=n` (at most 60 seconds) the answer comes once the job is over, or as it is by then."""
        job_id = job_id_of(request)
        seconds = wanted(request, self._deps.settings.wait_max)
        headers: list[Header] = [] if seconds is None else [(b"preference-applied", b"wait=%d" % seconds)]
        key = cache_key(self._deps.settings.namespace, job_id)
        document = await self._deps.cache.get(key)
        if document is None:
            job = await self._read(job_id) if seconds is None else await self._waiting.over(job_id, seconds)
            if job is None:
                raise not_found(f"job {job_id}")
            document = job_document(job)
            if not immutable(job.state):
                return json_answer(document, headers=headers)
            await self._deps.cache.put(key, document, CACHED)
        etag = etag_of(document)
        headers.append((b"etag", etag))
        if matches(request.headers.get("if-none-match"), etag):
            return Answer(304, headers=(NO_CACHE, *headers))
        return Answer(200, document, (JSON, NO_CACHE, *headers))

    @op(
        "List jobs",
        tag="jobs",
        answers={200: schemas.JobList},
        parameters=LIST,
        problems=(400, 503),
    )
    async def index(self, request: Request) -> Answer:
        """Newest first unless `order=asc`; live and finished jobs in one list, without their attempts."""
        return await list_answer(self._deps, request, LIST)

    @op(
        "Cancel a job",
        tag="jobs",
        answers={200: schemas.Job, 202: schemas.Job},
        problems=(404, 409, 429, 503),
    )
    async def cancel(self, request: Request) -> Answer:
        """200: it is cancelled. 202: it runs, and was told to stop. 409: it is over already."""
        job_id = job_id_of(request)
        before = await self._read(job_id)
        if before is None:
            raise not_found(f"job {job_id}")
        if before.state.terminal:
            raise conflict(f"job {job_id} is {before.state} already")
        job = await self._deps.store.cancel(DEFAULT_TENANT, job_id)
        if job is None:
            raise not_found(f"job {job_id}")
        if job.state is State.CANCELLED:
            await self._deps.events.publish(f"job:{job_id}", job.state.value.encode())
            return json_answer(job_document(job))
        if job.state.terminal:
            raise conflict(f"job {job_id} is {job.state} already")
        await self._deps.events.publish("cancel", f"{job.id} {job.epoch}".encode())
        return json_answer(job_document(job), 202)

    @op(
        "Replay a failed job",
        tag="jobs",
        body=schemas.Replay,
        body_optional=True,
        answers={200: schemas.Job},
        problems=(400, 404, 408, 409, 413, 415, 422, 429, 503),
    )
    async def replay(self, request: Request) -> Answer:
        """Queues a failed job again with a fresh budget of attempts and, if wanted, another payload. A second replay is
        409 until it has failed again."""
        job_id = job_id_of(request)
        read = await self._bodies.optional(request, "payload")
        before = await self._read(job_id)
        if before is None:
            raise not_found(f"job {job_id}")
        if before.state is not State.FAILED:
            raise conflict(f"job {job_id} is {before.state}: only a failed job can be replayed")
        return json_answer(job_document(await replay_one(self._deps, before, read)))

    async def _read(self, job_id: str) -> Job | None:
        return await self._deps.store.get(DEFAULT_TENANT, job_id)


async def replay_one(deps: ApiDeps, job: Job, read: Document) -> Job:
    """Start a failed job again.

    Args:
        read: a document whose `payload`, if it has one, replaces the job's.

    Raises:
        Invalid: the payload does not fit the task.
        Conflict: the job is not failed any more.
    """
    payload = payload_of(read)
    if payload is not None:
        await _check_payload(deps, job.task, payload)
    done = await deps.store.replay(DEFAULT_TENANT, job.id, read.source.get("payload"))
    if done is None:
        raise not_found(f"job {job.id}")
    replayed, ticket = done
    deps.publish([ticket])
    await deps.events.publish(f"job:{job.id}", replayed.state.value.encode())
    return replayed


def payload_of(read: Document) -> dict[str, Any] | None:
    """The payload of a document that may bring one.

    Raises:
        Invalid: it is no object, or too large.
    """
    if "payload" not in read.value:
        return None
    payload, size = read.value["payload"], len(read.source["payload"].encode())
    if not isinstance(payload, dict):
        raise Invalid([FieldError("/payload", "must be an object of keyword arguments")])
    if size > PAYLOAD_BYTES:
        raise Invalid([FieldError("/payload", f"is {size} bytes long: {PAYLOAD_BYTES} is the most")])
    return payload


async def _check_payload(deps: ApiDeps, task: str, payload: dict[str, Any]) -> None:
    for snapshot in (await deps.catalog.snapshot(), await deps.catalog.snapshot(MISS)):
        known = snapshot.tasks.get(task)
        if known is not None:
            errors = payload_errors(known, payload)
            if errors:
                raise Invalid(errors)
            return
    raise Invalid([FieldError("/payload", f"the task {task!r} is not in the catalogue, so this cannot be checked")])


async def list_answer(
    deps: ApiDeps, request: Request, allowed: tuple[Parameter, ...], states: frozenset[State] | None = None
) -> Answer:
    """One page of jobs."""
    query = job_query(request, allowed, states)
    jobs = await deps.store.find(query)
    items: list[bytes] = []
    size = 0
    for job in jobs:
        items.append(job_document(job))
        size += len(items[-1])
        if size > PAGE_BYTES:
            break
    more = len(items) < len(jobs) or len(jobs) == query.limit
    return json_answer(listed(items, next_cursor(query, jobs[len(items) - 1]) if more else None))


def job_id_of(request: Request) -> str:
    """The job id of a path.

    Raises:
        Problem: it can be no id, and so there is no such job.
    """
    job_id: str = request.path_params["id"]
    if not is_id(job_id):
        raise not_found(f"job {job_id[:80]}")
    return job_id.lower()
