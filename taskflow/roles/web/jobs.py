"""Jobs: submit, look, wait, list, cancel, replay."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from taskflow.core.errors import FieldError, Invalid
from taskflow.core.job import Idempotency, Job, NewJob, State
from taskflow.core.limits import BATCH_BODY_BYTES, BATCH_JOBS, DEFAULT_TENANT
from taskflow.flow.admit import payload_errors
from taskflow.ports.store import Inserted
from taskflow.roles.web.deps import ApiDeps
from taskflow.roles.web.documents import JSON, answer, job_document, new_document
from taskflow.roles.web.problems import Problem, not_found, problem_of
from taskflow.roles.web.reading import (
    body_of,
    cursor_after,
    fingerprint,
    idempotency_of,
    job_id_of,
    job_query,
    optional_document,
    wait_of,
)
from taskflow.tasks import jsontext

ROUTE: Final = "jobs"
POLL: Final = 2.0
CACHE_SECONDS: Final = 3_600.0
IMMUTABLE: Final = frozenset({State.SUCCEEDED, State.CANCELLED, State.EXPIRED})


class JobRoutes:
    """Handlers of `/api/v1/jobs`."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps

    async def submit(self, request: Request) -> Response:
        """POST /jobs."""
        document = jsontext.document(await body_of(request))
        key = request.headers.get("idempotency-key")
        mark = fingerprint(document.value) if key is not None else ""
        job = await self._deps.catalog.admit(document, idempotency_of(request, ROUTE, mark))
        stored = await self._deps.submitter.submit(job)
        if not stored.created:
            return answer(*await self._replayed(stored, mark), {"Idempotent-Replayed": "true"})
        return answer(new_document(job, stored), 202, {"Location": f"/api/v1/jobs/{job.id}"})

    async def submit_batch(self, request: Request) -> Response:
        """POST /jobs/batch."""
        document = jsontext.document(await body_of(request, BATCH_BODY_BYTES))
        items = document.value.get("jobs")
        unknown = [
            FieldError(f"/{jsontext.escaped(name)}"[:200], "there is no such field")
            for name in document.value
            if name != "jobs"
        ]
        if unknown or not isinstance(items, list) or not 1 <= len(items) <= BATCH_JOBS:
            raise Invalid(unknown or [FieldError("/jobs", f"must be a list of 1 to {BATCH_JOBS:,} jobs")])
        keyed = idempotency_of(request, ROUTE, "")
        admitted = await asyncio.gather(
            *(self._admit_item(index, item, keyed) for index, item in enumerate(items)), return_exceptions=True
        )
        good = [job for job in admitted if isinstance(job, NewJob)]
        stored = dict(zip((job.id for job in good), await self._deps.submitter.submit_many(good), strict=True))
        answers = [await self._item(index, job, stored) for index, job in enumerate(admitted)]
        return answer({"items": answers}, 207)

    async def show(self, request: Request) -> Response:
        """GET /jobs/{id}."""
        job_id, seconds = job_id_of(request), wait_of(request)
        headers = {} if seconds is None else {"Preference-Applied": f"wait={seconds:g}"}
        key = f"{self._deps.settings.namespace}:job:{job_id}"
        body = await self._deps.cache.get(key)
        if body is None:
            job = await self._get(job_id) if not seconds else await self._wait(job_id, seconds)
            body = orjson.dumps(job_document(job))
            if job.state not in IMMUTABLE:
                return Response(body, headers=headers, media_type=JSON)
            await self._deps.cache.put(key, body, CACHE_SECONDS)
        tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        headers["ETag"] = tag
        wanted = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
        if tag in wanted or "*" in wanted:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=JSON)

    async def list(self, request: Request) -> Response:
        """GET /jobs."""
        return await self._list(request, None)

    async def list_dead(self, request: Request) -> Response:
        """GET /dead-letters."""
        return await self._list(request, frozenset({State.FAILED}))

    async def cancel(self, request: Request) -> Response:
        """POST /jobs/{id}/cancel."""
        job_id = job_id_of(request)
        before = await self._get(job_id)
        job = await self._deps.store.cancel(DEFAULT_TENANT, job_id)
        if job is None:
            raise not_found(f"job {job_id}")
        if before.state.terminal:
            raise Problem(409, "conflict", f"job {job_id} is {before.state} already", more={"state": before.state})
        if job.state is State.RUNNING:
            await self._deps.events.publish("cancel", f"{job.id} {job.epoch}".encode())
            return answer(job_document(job), 202)
        if job.state is not State.CANCELLED:
            raise Problem(409, "conflict", f"job {job_id} is {job.state} already", more={"state": job.state})
        await self._deps.events.publish(f"job:{job.id}", job.state.encode())
        return answer(job_document(job))

    async def replay(self, request: Request) -> Response:
        """POST /jobs/{id}/replay."""
        job_id = job_id_of(request)
        document = await optional_document(request)
        for name in document.value:
            if name != "payload":
                raise Invalid([FieldError(f"/{jsontext.escaped(name)}"[:200], "there is no such field")])
        job = await self._get(job_id)
        payload = await self.checked_payload(job.task, document)
        return answer(job_document(await self.replayed(job_id, payload)))

    async def replayed(self, job_id: str, payload: str | None) -> Job:
        """Replay one job and say so."""
        done = await self._deps.store.replay(DEFAULT_TENANT, job_id, payload)
        if done is None:
            raise not_found(f"job {job_id}")
        job, ticket = done
        self._deps.publish([ticket])
        await self._deps.events.publish(f"job:{job.id}", job.state.encode())
        return job

    async def checked_payload(self, task: str, document: jsontext.Document) -> str | None:
        """An edited payload, if there is one and it fits."""
        if "payload" not in document.value:
            return None
        value = document.value["payload"]
        if not isinstance(value, dict):
            raise Invalid([FieldError("/payload", "must be a JSON object")])
        known = (await self._deps.catalog.snapshot()).tasks.get(task)
        errors = payload_errors(known, value) if known else []
        if errors:
            raise Invalid(errors)
        return document.source["payload"]

    async def _admit_item(self, index: int, item: Any, keyed: Idempotency | None) -> NewJob:
        if not isinstance(item, dict):
            raise Invalid([FieldError("", "must be a JSON object: the body of a submit")])
        key = Idempotency(ROUTE, f"{keyed.key}:{index}", fingerprint(item)) if keyed else None
        source = {name: jsontext.dumps(item[name]) for name in ("payload", "metadata") if name in item}
        return await self._deps.catalog.admit(jsontext.Document(item, source), key)

    async def _item(self, index: int, job: NewJob | BaseException, stored: dict[str, Inserted | BaseException]) -> Any:
        outcome = job if isinstance(job, BaseException) else stored[job.id]
        if isinstance(outcome, Inserted) and isinstance(job, NewJob):
            if outcome.created:
                return {"index": index, "status": 202, "job": new_document(job, outcome)}
            assert job.idempotency is not None
            try:
                document, status = await self._replayed(outcome, job.idempotency.fingerprint)
            except Problem as problem:
                return {"index": index, "status": problem.status, "problem": problem.document()}
            return {"index": index, "status": status, "job": document}
        refusal = problem_of(outcome if isinstance(outcome, Exception) else RuntimeError(str(outcome)))
        return {"index": index, "status": refusal.status, "problem": refusal.document()}

    async def _replayed(self, stored: Inserted, mark: str) -> tuple[Any, int]:
        if stored.fingerprint != mark:
            raise Problem(
                422,
                "idempotency-key-reused",
                "this Idempotency-Key was used with another body: use a new key",
                more={"job_id": stored.job_id},
            )
        return job_document(await self._get(stored.job_id)), 200

    async def _get(self, job_id: str) -> Job:
        job = await self._deps.store.get(DEFAULT_TENANT, job_id)
        if job is None:
            raise not_found(f"job {job_id}")
        return job

    async def _wait(self, job_id: str, seconds: float) -> Job:
        """Subscribe, read, wait; and read every 2 s anyway, since events may be lost."""
        end = time.monotonic() + seconds
        async with self._deps.events.subscribe(f"job:{job_id}") as events:
            news = aiter(events)
            heard: asyncio.Task[Any] | None = None
            stopping = asyncio.create_task(self._deps.stop.asked.wait())
            try:
                while True:
                    job = await self._get(job_id)
                    left = end - time.monotonic()
                    if job.state.terminal or left <= 0 or stopping.done():
                        return job
                    heard = heard or asyncio.ensure_future(anext(news))
                    await asyncio.wait([heard, stopping], timeout=min(left, POLL), return_when=asyncio.FIRST_COMPLETED)
                    if heard.done():
                        heard = None
            finally:
                stopping.cancel()
                if heard:
                    heard.cancel()

    async def _list(self, request: Request, states: frozenset[State] | None) -> Response:
        query = job_query(request, states)
        jobs = await self._deps.store.find(query)
        last = jobs[-1] if len(jobs) == query.limit else None
        following = cursor_after(query, last.created_at, last.id) if last else None
        return answer({"items": [job_document(job) for job in jobs], "next_cursor": following})
