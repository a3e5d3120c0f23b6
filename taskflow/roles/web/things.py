"""Everything but jobs: logs, files, dead letters, queues, tasks, workers, health."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from taskflow.core.errors import FieldError, Invalid, TaskFlowError
from taskflow.core.ids import is_id
from taskflow.core.job import Job, State
from taskflow.core.limits import BATCH_JOBS, DEFAULT_TENANT, is_name
from taskflow.ports.store import JobQuery, QueueInfo
from taskflow.roles.web.deps import ApiDeps
from taskflow.roles.web.documents import answer, instant
from taskflow.roles.web.jobs import JobRoutes
from taskflow.roles.web.problems import Problem, not_found, problem_of
from taskflow.roles.web.reading import Query, body_of, job_id_of
from taskflow.tasks import jsontext

NDJSON: Final = "application/x-ndjson"
LAST_SEGMENT: Final = 2.0
DEAD_FIELDS: Final = frozenset({"ids", "filter", "payload"})
DEAD_FILTERS: Final = frozenset({"task", "queue", "error_type"})


class ThingRoutes:
    """Handlers of what belongs to jobs and of what runs them."""

    def __init__(self, deps: ApiDeps, jobs: JobRoutes) -> None:
        self._deps = deps
        self._jobs = jobs

    async def logs(self, request: Request) -> Response:
        """GET /logs/{id}."""
        job_id = job_id_of(request)
        query = Query(request, frozenset({"epoch", "after"}))
        epoch, after = query.whole("epoch", 1, 2**31, None), query.whole("after", 0, 2**31, 0)
        query.done()
        job = await self._job(job_id)
        end = time.monotonic() + LAST_SEGMENT
        while job.state.terminal and self._deps.pending.pending(job_id) and time.monotonic() < end:  # noqa: ASYNC110 - lines come from threads
            await asyncio.sleep(0.05)
        pending = not job.state.terminal or self._deps.pending.pending(job_id)
        raw, truncated = await self._deps.logs.read(job_id, epoch)
        lines = raw.splitlines(keepends=True)[after:]
        headers = {"Taskflow-Logs": "truncated" if truncated else "pending" if pending else "complete"}
        if NDJSON in request.headers.get("accept", ""):
            return Response(b"".join(lines), headers=headers, media_type=NDJSON)
        return Response("".join(map(plain, lines)), headers=headers, media_type="text/plain; charset=utf-8")

    async def artifacts(self, request: Request) -> Response:
        """GET /jobs/{id}/artifacts."""
        job = await self._job(job_id_of(request))
        return answer(
            {
                "items": [
                    {
                        "name": a.name,
                        "content_type": a.content_type,
                        "size": a.size,
                        "sha256": a.sha256,
                        "created_at": instant(a.created_at),
                    }
                    for a in await self._deps.store.artifacts(job.id)
                ],
                "next_cursor": None,
            }
        )

    async def artifact(self, request: Request) -> Response:
        """GET /jobs/{id}/artifacts/{name}."""
        job_id, name = job_id_of(request), request.path_params["name"]
        for found in await self._deps.store.artifacts(job_id):
            if found.name == name:
                headers = {
                    "Content-Disposition": f'attachment; filename="{name.rpartition("/")[2]}"',
                    "X-Content-Type-Options": "nosniff",
                    "Content-Security-Policy": "sandbox",
                    "Content-Length": str(found.size),
                }
                kind = found.content_type if found.content_type.isprintable() else "application/octet-stream"
                return StreamingResponse(self._deps.artifacts.open(found.object), headers=headers, media_type=kind)
        raise not_found(f"artifact {name[:100]!r} of job {job_id}")

    async def dead_replay(self, request: Request) -> Response:
        """POST /dead-letters/replay."""
        document = jsontext.document(await body_of(request))
        items = []
        for job_id, task in await self._chosen(document.value):
            try:
                payload = await self._jobs.checked_payload(task, document)
                await self._jobs.replayed(job_id, payload)
                items.append({"id": job_id, "status": 200})
            except (Problem, TaskFlowError) as error:
                problem = problem_of(error)
                items.append({"id": job_id, "status": problem.status, "problem": problem.document()})
        return answer({"items": items}, 207)

    async def dead_purge(self, request: Request) -> Response:
        """POST /dead-letters/purge."""
        document = jsontext.document(await body_of(request))
        if "payload" in document.value:
            raise Invalid([FieldError("/payload", "there is no such field")])
        chosen = [job_id for job_id, _ in await self._chosen(document.value)]
        gone = set(await self._deps.store.purge(DEFAULT_TENANT, chosen))
        return answer({"items": [{"id": job_id, "status": 200 if job_id in gone else 409} for job_id in chosen]}, 207)

    async def tasks(self, _: Request) -> Response:
        """GET /tasks."""
        items = [
            {
                "name": task.name,
                "queue": task.queue,
                "runs_in": task.runs_in,
                "timeout": task.timeout,
                "max_attempts": task.max_attempts,
                "description": task.description,
                "live_workers": task.live_workers,
                "schema": orjson.Fragment(task.schema),
                "updated_at": instant(task.updated_at),
            }
            for task in await self._deps.store.tasks()
        ]
        return answer({"items": items, "next_cursor": None})

    async def workers(self, _: Request) -> Response:
        """GET /workers."""
        items = [
            {
                "id": worker.id,
                "state": worker.state,
                "host": worker.host,
                "pid": worker.pid,
                "queues": list(worker.queues),
                "tasks": list(worker.tasks),
                "slots": dict(worker.slots),
                "started_at": instant(worker.started_at),
                "heartbeat_at": instant(worker.heartbeat_at),
            }
            for worker in await self._deps.store.workers()
        ]
        return answer({"items": items, "next_cursor": None})

    async def queues(self, _: Request) -> Response:
        """GET /queues."""
        return answer({"items": [_queue(queue) for queue in await self._deps.store.queues()], "next_cursor": None})

    async def make_queue(self, request: Request) -> Response:
        """POST /queues."""
        body = jsontext.document(await body_of(request)).value
        name = body.get("name")
        errors = [
            FieldError(f"/{jsontext.escaped(key)}"[:200], "there is no such field") for key in body if key != "name"
        ]
        if not isinstance(name, str) or not is_name(name):
            errors.append(FieldError("/name", "must be 1 to 128 letters, digits, '.', '_', ':' or '-'"))
        if errors:
            raise Invalid(errors)
        known = str(name) in await self._deps.store.queue_names()
        await self._deps.store.ensure_queues([str(name)])
        await self._queues_changed()
        return answer(await self._queue(str(name)), 200 if known else 201)

    async def pause(self, request: Request) -> Response:
        """POST /queues/{name}/pause."""
        raw = await body_of(request) if "content-type" in request.headers else b""
        body = jsontext.document(raw).value if raw.strip() else {}
        reason = body.get("reason")
        errors = [
            FieldError(f"/{jsontext.escaped(key)}"[:200], "there is no such field") for key in body if key != "reason"
        ]
        if reason is not None and not (isinstance(reason, str) and len(reason) <= 500):
            errors.append(FieldError("/reason", "must be a text of at most 500 characters"))
        if errors:
            raise Invalid(errors)
        name = request.path_params["name"]
        if not await self._deps.store.pause(name, reason):
            raise not_found(f"queue {name[:128]!r}")
        await self._queues_changed()
        return answer(await self._queue(name))

    async def resume(self, request: Request) -> Response:
        """POST /queues/{name}/resume."""
        name = request.path_params["name"]
        if not await self._deps.store.resume(name):
            raise not_found(f"queue {name[:128]!r}")
        await self._queues_changed()
        return answer(await self._queue(name))

    async def health(self, _: Request) -> Response:
        """GET /health."""
        found = await self._deps.health()
        gone = found.get("store") is not None
        status = "down" if gone else "degraded" if any(found.values()) else "ok"
        components = {
            name: {"status": "ok"} if detail is None else {"status": "down", "detail": detail}
            for name, detail in found.items()
        }
        document = {"status": status, "version": self._deps.settings.version, "components": components}
        return answer(document, 503 if gone else 200)

    async def live(self, _: Request) -> Response:
        """GET /health/live."""
        return answer({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """GET /health/ready."""
        found = {role: why or "ready" for role, why in self._deps.ready().items()}
        ready = all(why == "ready" for why in found.values()) and not self._deps.stop.asked.is_set()
        return answer({"status": "ready" if ready else "not ready", "roles": found}, 200 if ready else 503)

    async def _job(self, job_id: str) -> Job:
        job = await self._deps.store.get(DEFAULT_TENANT, job_id)
        if job is None:
            raise not_found(f"job {job_id}")
        return job

    async def _chosen(self, body: dict[str, Any]) -> list[tuple[str, str]]:
        """(id, task) of the dead letters that a body chooses by ids or by filter."""
        ids, wanted = body.get("ids"), body.get("filter")
        errors = [
            FieldError(f"/{jsontext.escaped(key)}"[:200], "there is no such field")
            for key in body
            if key not in DEAD_FIELDS
        ]
        if (ids is None) == (wanted is None):
            errors.append(FieldError("", "exactly one of ids and filter is needed"))
        elif ids is not None:
            fits = isinstance(ids, list) and all(isinstance(job_id, str) and is_id(job_id) for job_id in ids)
            if not fits or not 1 <= len(ids) <= BATCH_JOBS:
                errors.append(FieldError("/ids", f"must be a list of 1 to {BATCH_JOBS:,} job ids"))
        elif not isinstance(wanted, dict) or not all(
            key in DEAD_FILTERS and isinstance(value, str) and "\0" not in value for key, value in wanted.items()
        ):
            errors.append(FieldError("/filter", f"must be an object of texts: {', '.join(sorted(DEAD_FILTERS))}"))
        if errors:
            raise Invalid(errors)
        if ids is not None:
            jobs = [
                (job_id.lower(), await self._deps.store.get(DEFAULT_TENANT, job_id.lower()))
                for job_id in dict.fromkeys(ids)
            ]
            return [(job_id, job.task if job else "") for job_id, job in jobs]
        assert wanted is not None
        query = JobQuery(
            tenant=DEFAULT_TENANT,
            limit=BATCH_JOBS,
            states=frozenset({State.FAILED}),
            ascending=True,
            task=wanted.get("task"),
            queue=wanted.get("queue"),
            error_type=wanted.get("error_type"),
        )
        return [(job.id, job.task) for job in await self._deps.store.find(query)]

    async def _queue(self, name: str) -> dict[str, Any]:
        found = [queue for queue in await self._deps.store.queues() if queue.name == name]
        if not found:
            raise not_found(f"queue {name[:128]!r}")
        return _queue(found[0])

    async def _queues_changed(self) -> None:
        self._deps.catalog.forget()
        await self._deps.events.publish("queues", b"")


def plain(raw: bytes) -> str:
    """A log line for people; control characters are shown, never sent to a terminal."""
    try:
        record = orjson.loads(raw)
    except ValueError:
        return ""
    fields = "".join(f" {key}={orjson.dumps(value).decode()}" for key, value in record.get("fields", {}).items())
    text = f"{record['ts']} {record['level'].upper():7} {record['message']}{fields}"
    return _visible(text) + "\n"


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\t " else c.encode("unicode_escape").decode() for c in text)


def _queue(queue: QueueInfo) -> dict[str, Any]:
    return {
        "name": queue.name,
        "paused": queue.paused,
        "pause_reason": queue.pause_reason,
        "depth": f"{queue.depth:,}+" if queue.depth_capped else queue.depth,
        "running": queue.running,
        "oldest": queue.oldest,
    }
