"""POST /jobs and /jobs/batch: the way in. A 2xx is sent after the commit, never before."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson
from starlette.requests import Request

from taskflow.core.errors import FieldError, Invalid, StoreUnavailable
from taskflow.core.job import Idempotency, NewJob
from taskflow.core.limits import BATCH_JOBS, DEFAULT_TENANT, JSON_DEPTH
from taskflow.flow.catalog import TURN
from taskflow.ports.store import Inserted
from taskflow.roles.api import schemas
from taskflow.roles.api.answer import JSON, NO_CACHE, Answer, json_answer
from taskflow.roles.api.body import THREAD_BYTES, Bodies, header, only
from taskflow.roles.api.client import Gate
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.documents import job_document, new_job_document
from taskflow.roles.api.operation import Parameter, op
from taskflow.roles.api.problems import LATE, Problem, conflict, problem_of, unavailable, wrong
from taskflow.tasks.jsonread import Document, documents
from taskflow.tasks.jsontext import canonical

PREFIX: Final = "/api/v1/jobs/"
ROUTE: Final = "POST /api/v1/jobs"
BATCH_ROUTE: Final = "POST /api/v1/jobs/batch"
KEY_BYTES: Final = 255
REPLAYED: Final = (b"idempotent-replayed", b"true")
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_HEADER: Final = Parameter(
    "Idempotency-Key",
    {"type": "string"},
    "The same key and body again, within 24 hours, answer 200 with the original job. Bare or quoted, at most 255 "
    "printable ASCII characters.",
    "header",
)


class SubmitRoutes:
    """Takes jobs."""

    def __init__(self, deps: ApiDeps, bodies: Bodies, gate: Gate) -> None:
        self._deps = deps
        self._bodies = bodies
        self._gate = gate

    @op(
        "Submit a job",
        tag="jobs",
        body=schemas.Submit,
        answers={202: schemas.Job, 200: schemas.Job},
        parameters=[_HEADER],
        problems=(400, 408, 409, 413, 415, 422, 429, 503),
        headers={202: {"Location": "Path of the job."}, 200: {"Idempotent-Replayed": "`true`"}},
    )
    async def submit(self, request: Request) -> Answer:
        """The job is durable when this answers 202. 200 says that the Idempotency-Key had brought this job before."""
        await self._gate.enter(request.scope)
        key = idempotency_key(request)
        read = await self._bodies.document(request)
        job = await self._deps.catalog.admit(read, _bound(ROUTE, key, read) if key else None)
        request.scope[LATE] = partial(_unknown, job)
        try:
            stored = await self._deps.submitter.submit(job)
        except StoreUnavailable:
            raise _unknown(job) from None
        if stored.created:
            return _accepted(job, stored)
        return await self._replayed(job, stored)

    @op(
        "Submit up to 1,000 jobs",
        tag="jobs",
        body=schemas.Batch,
        answers={207: schemas.BatchAnswer},
        parameters=[_HEADER],
        problems=(400, 408, 413, 415, 422, 429, 503),
    )
    async def batch(self, request: Request) -> Answer:
        """Each job has an outcome of its own, as if it had been sent alone. Item i uses the key `key:i`. Pointers of
        errors lead into the item. A body of more than 16 MiB, one that is no JSON, and one that holds what cannot be
        stored (NUL, half surrogates, a member twice, too deep a nesting) is refused whole. Each job counts against the
        rate limit, and a batch larger than its burst is refused."""
        key = idempotency_key(request)
        raw = await self._bodies.raw(request, self._deps.settings.batch_body_bytes)
        items = await asyncio.to_thread(_items, raw) if len(raw) > THREAD_BYTES else _items(raw)
        await self._gate.enter(request.scope, len(items))
        bound = [_bound(BATCH_ROUTE, f"{key}:{index}", item) if key else None for index, item in enumerate(items)]
        admitted = await self._deps.catalog.admit_many(zip(items, bound, strict=True))
        jobs = [job for job in admitted if isinstance(job, NewJob)]
        request.scope[LATE] = _unknown_batch
        stored = iter(await self._deps.submitter.submit_many(jobs))
        outcomes = []
        for index, job in enumerate(admitted):
            if index % TURN == TURN - 1:
                await asyncio.sleep(0)
            result = next(stored) if isinstance(job, NewJob) else None
            if isinstance(job, NewJob) and isinstance(result, Inserted) and result.created:
                outcomes.append(_item(index, 202, new_job_document(job, result)))
            else:
                outcomes.append(await self._outcome(index, job, result))
        return json_answer({"items": outcomes}, 207)

    async def _outcome(
        self, index: int, job: NewJob | Exception, stored: Inserted | BaseException | None
    ) -> dict[str, Any]:
        try:
            if isinstance(job, Exception):
                raise job
            if isinstance(stored, StoreUnavailable):
                raise _unknown(job)
            if isinstance(stored, BaseException):
                raise stored
            assert stored is not None
            answer = await self._replayed(job, stored)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            return {"index": index, "status": problem.status, "problem": problem.document()}
        return _item(index, answer.status, answer.body)

    async def _replayed(self, job: NewJob, stored: Inserted) -> Answer:
        assert job.idempotency is not None
        if stored.fingerprint != job.idempotency.fingerprint:
            raise Problem(
                422,
                "idempotency-key-reused",
                f"the key {job.idempotency.key!r} came with another body before; send a new key",
                [FieldError("Idempotency-Key", "belongs to another body")],
            )
        original = await self._deps.store.get(DEFAULT_TENANT, stored.job_id)
        if original is None:
            raise conflict("the job of this key was deleted just now; send the request again")
        headers = (JSON, NO_CACHE, (b"location", PREFIX.encode() + original.id.encode()), REPLAYED)
        return Answer(200, job_document(original), headers)


def idempotency_key(request: Request) -> str | None:
    """The key of a request, without its quotes.

    Raises:
        Problem: it is repeated, too long, or holds more than printable ASCII.
    """
    value = header(request, b"idempotency-key")
    if value is None:
        return None
    key = value.strip()
    quoted = _QUOTED.fullmatch(key)
    if quoted:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    if not _KEY.fullmatch(key):
        raise wrong("Idempotency-Key", f"must be 1 to {KEY_BYTES} printable ASCII characters")
    return key


def _bound(route: str, key: str, read: Document) -> Idempotency:
    return Idempotency(route, key, hashlib.sha256(canonical(read.value)).hexdigest())


def _accepted(job: NewJob, stored: Inserted) -> Answer:
    location = (b"location", PREFIX.encode() + stored.job_id.encode())
    return Answer(202, new_job_document(job, stored), (JSON, NO_CACHE, location))


def _item(index: int, status: int, document: bytes) -> dict[str, Any]:
    return {"index": index, "status": status, "job": orjson.Fragment(document)}


def _unknown(job: NewJob) -> Problem:
    return unavailable(f"the store did not answer: whether job {job.id} was stored will show under its id")


def _unknown_batch() -> Problem:
    return unavailable(
        "no answer in time: any of these jobs may have been stored; send the batch again with the Idempotency-Key that it "
        "had, or look for them in the list"
    )


def _items(raw: bytes) -> Sequence[Document]:
    """The jobs of a batch body, each with the source of its members.

    Raises:
        Malformed: the body is no JSON.
        Invalid: it is no batch.
    """
    outer, items = documents(raw, "jobs", JSON_DEPTH + 2)
    only(outer, "jobs")
    jobs = outer.value.get("jobs")
    if not isinstance(jobs, list):
        raise Invalid([FieldError("/jobs", "must be an array of jobs")])
    if not 1 <= len(jobs) <= BATCH_JOBS:
        raise Invalid([FieldError("/jobs", f"holds {len(jobs)} jobs: 1 to {BATCH_JOBS} are taken at once")])
    errors = [FieldError(f"/jobs/{i}", "must be an object") for i, item in enumerate(items) if item is None]
    if errors:
        raise Invalid(errors[:50])
    return [item for item in items if item is not None]
