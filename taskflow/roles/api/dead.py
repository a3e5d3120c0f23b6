"""Dead letters: failed jobs, many at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request

from taskflow.core.errors import FieldError, Invalid, TaskFlowError
from taskflow.core.ids import is_id
from taskflow.core.job import Job, State
from taskflow.core.limits import DEFAULT_TENANT, is_name
from taskflow.flow.admit import instant, unknown
from taskflow.ports.store import JobQuery
from taskflow.roles.api import schemas
from taskflow.roles.api.answer import Answer, json_answer
from taskflow.roles.api.body import Bodies, only
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.jobs import list_answer, payload_of, replay_one
from taskflow.roles.api.operation import op
from taskflow.roles.api.problems import conflict, not_found, problem_of
from taskflow.roles.api.query import DEAD, ERROR_TYPE_MAX
from taskflow.tasks.jsonread import Document

FAILED: Final = frozenset({State.FAILED})
AT_ONCE: Final = 1_000
"""Jobs that one call may change."""
PAGE: Final = 50
"""Jobs that are read, and written side by side, at a time."""
FILTERS: Final = ("task", "queue", "error_type", "created_after", "created_before")
_BULK: Final = (400, 408, 413, 415, 422, 429, 503)

log = logging.getLogger("taskflow")
Outcome = dict[str, Any]


class DeadRoutes:
    """The dead-letter list."""

    def __init__(self, deps: ApiDeps, bodies: Bodies) -> None:
        self._deps = deps
        self._bodies = bodies

    @op("List dead letters", tag="dead letters", answers={200: schemas.JobList}, parameters=DEAD, problems=(400, 503))
    async def index(self, request: Request) -> Answer:
        """Jobs that failed for good and were neither replayed nor purged."""
        return await list_answer(self._deps, request, DEAD, FAILED)

    @op(
        "Replay dead letters",
        tag="dead letters",
        body=schemas.DeadReplay,
        answers={207: schemas.Outcomes},
        problems=_BULK,
    )
    async def replay(self, request: Request) -> Answer:
        """Replays jobs by id or by filter, 1,000 at most, each with an outcome of its own; `more` says that the filter
        matches further ones. A payload replaces that of each."""
        read = await self._bodies.document(request)
        only(read, "ids", "filter", "payload")
        payload_of(read)

        async def replay(job: Job) -> None:
            await replay_one(self._deps, job, read)

        return await self._each(read, replay)

    @op(
        "Purge dead letters",
        tag="dead letters",
        body=schemas.DeadPurge,
        answers={207: schemas.Outcomes},
        problems=_BULK,
    )
    async def purge(self, request: Request) -> Answer:
        """Deletes failed jobs for good, by id or by filter, 1,000 at most, with their logs, artifacts and keys."""
        read = await self._bodies.document(request)
        only(read, "ids", "filter")
        return await self._each(read, self._purge)

    async def _purge(self, job: Job) -> None:
        objects = [artifact.object for artifact in await self._deps.store.artifacts(job.id)]
        if not await self._deps.store.purge(DEFAULT_TENANT, [job.id]):
            raise conflict(f"job {job.id} is not failed any more")
        try:
            await self._deps.artifacts.delete(*objects)
        except TaskFlowError as error:
            log.warning("objects of purged job %s stay: %s", job.id, error)

    async def _each(self, read: Document, act: Callable[[Job], Awaitable[None]]) -> Answer:
        """Do something with each job that is named or matches."""
        ids, query = _chosen(read)
        if query is not None:
            outcomes, more = await self._matching(query, act)
        else:
            outcomes, more = [], False
            for start in range(0, len(ids), PAGE):
                jobs = [self._deps.store.get(DEFAULT_TENANT, job_id) for job_id in ids[start : start + PAGE]]
                found = zip(ids[start : start + PAGE], await asyncio.gather(*jobs), strict=True)
                outcomes += await asyncio.gather(*(self._one(job_id, job, act) for job_id, job in found))
        return json_answer({"items": outcomes, "more": more}, 207)

    async def _matching(self, query: JobQuery, act: Callable[[Job], Awaitable[None]]) -> tuple[Sequence[Outcome], bool]:
        outcomes: list[Outcome] = []
        after: tuple[datetime, str] | None = None
        while len(outcomes) < AT_ONCE:
            page = await self._deps.store.find(replace(query, after=after))
            outcomes += await asyncio.gather(*(self._one(job.id, job, act) for job in page))
            if len(page) < query.limit:
                return outcomes, False
            after = (page[-1].created_at, page[-1].id)
        return outcomes, bool(await self._deps.store.find(replace(query, after=after)))

    async def _one(self, job_id: str, job: Job | None, act: Callable[[Job], Awaitable[None]]) -> Outcome:
        try:
            if job is None:
                raise not_found(f"job {job_id}")
            if job.state is not State.FAILED:
                raise conflict(f"job {job_id} is {job.state}, not failed")
            await act(job)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                raise
            return {"id": job_id, "status": problem.status, "problem": problem.document()}
        return {"id": job_id, "status": 200}


def _chosen(read: Document) -> tuple[Sequence[str], JobQuery | None]:
    """The ids, or the filter, of a bulk body.

    Raises:
        Invalid: it has neither or both, or what it has is wrong.
    """
    if ("ids" in read.value) == ("filter" in read.value):
        raise Invalid([FieldError("", "say either ids or filter")])
    if "filter" in read.value:
        return (), _filter(read.value["filter"])
    ids = read.value["ids"]
    if not isinstance(ids, list) or not 1 <= len(ids) <= AT_ONCE:
        raise Invalid([FieldError("/ids", f"must be an array of 1 to {AT_ONCE} job ids")])
    errors = [
        FieldError(f"/ids/{index}", "is no job id")
        for index, job_id in enumerate(ids)
        if not isinstance(job_id, str) or not is_id(job_id)
    ]
    if errors:
        raise Invalid(errors[:50])
    return list(dict.fromkeys(job_id.lower() for job_id in ids)), None


def _filter(value: Any) -> JobQuery:
    if not isinstance(value, dict):
        raise Invalid([FieldError("/filter", "must be an object; an empty one matches every dead letter")])
    errors = unknown(value, FILTERS, "is not known here", under="/filter")
    read: dict[str, Any] = {}
    for name in (name for name in value if name in FILTERS):
        try:
            read[name] = _criterion(name, value[name])
        except ValueError as error:
            errors.append(FieldError(f"/filter/{name}", str(error)))
    if errors:
        raise Invalid(errors[:50])
    return JobQuery(tenant=DEFAULT_TENANT, limit=PAGE, states=FAILED, ascending=True, **read)


def _criterion(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if name in {"created_after", "created_before"}:
        return instant(value)
    if name == "error_type":
        if not (0 < len(value) <= ERROR_TYPE_MAX and value.isprintable()):
            raise ValueError(f"must be 1 to {ERROR_TYPE_MAX} printable characters")
    elif not is_name(value):
        raise ValueError("must be 1 to 128 letters, digits, '.', '_', ':' or '-'")
    return value
