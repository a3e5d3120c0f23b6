"""Tasks, queues and workers."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request

from taskflow.core.errors import FieldError, Invalid
from taskflow.core.limits import is_name
from taskflow.roles.api import schemas
from taskflow.roles.api.answer import Answer, json_answer
from taskflow.roles.api.body import Bodies, only
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.documents import listed, queue_document, task_document, worker_document
from taskflow.roles.api.operation import op
from taskflow.roles.api.problems import not_found

REASON_MAX: Final = 500
QUEUES: Final = b"/api/v1/queues/"


class CatalogueRoutes:
    """What can run, where it stands, and who runs it."""

    def __init__(self, deps: ApiDeps, bodies: Bodies) -> None:
        self._deps = deps
        self._bodies = bodies

    @op("List tasks", tag="catalogue", answers={200: schemas.TaskList}, problems=(503,))
    async def tasks(self, _: Request) -> Answer:
        """Every task that a worker has ever offered, and how many live workers offer it now."""
        return json_answer(listed([task_document(task) for task in await self._deps.store.tasks()]))

    @op("List workers", tag="catalogue", answers={200: schemas.WorkerList}, problems=(503,))
    async def workers(self, _: Request) -> Answer:
        """Workers alive, and those that ended within the last day."""
        return json_answer(listed([worker_document(worker) for worker in await self._deps.store.workers()]))

    @op("List queues", tag="queues", answers={200: schemas.QueueList}, problems=(503,))
    async def queues(self, _: Request) -> Answer:
        """Every queue with what stands in it. Depth is counted up to 10,000."""
        return json_answer(listed([queue_document(queue) for queue in await self._deps.store.queues()]))

    @op("Get a queue", tag="queues", answers={200: schemas.Queue}, problems=(404, 503))
    async def queue(self, request: Request) -> Answer:
        """One queue with what stands in it."""
        return json_answer(await self._queue(_name_of(request)))

    @op(
        "Create a queue",
        tag="queues",
        body=schemas.QueueCreate,
        answers={201: schemas.Queue, 200: schemas.Queue},
        problems=(400, 408, 413, 415, 422, 429, 503),
        headers={201: {"Location": "Path of the queue."}},
    )
    async def create(self, request: Request) -> Answer:
        """201: it was made. 200: it was there."""
        read = await self._bodies.document(request)
        only(read, "name")
        name = read.value.get("name")
        if not isinstance(name, str) or not is_name(name) or name.startswith("amq."):
            detail = "must be 1 to 128 letters, digits, '.', '_', ':' or '-', and not begin with 'amq.'"
            raise Invalid([FieldError("/name", detail)])
        new = name not in await self._deps.store.queue_names()
        await self._deps.store.ensure_queues([name])
        await self._changed(name)
        location = (b"location", QUEUES + name.encode())
        return json_answer(await self._queue(name), 201 if new else 200, [location])

    @op(
        "Pause a queue",
        tag="queues",
        body=schemas.Pause,
        body_optional=True,
        answers={200: schemas.Queue},
        problems=(400, 404, 408, 413, 415, 422, 429, 503),
    )
    async def pause(self, request: Request) -> Answer:
        """No job of it starts until it is resumed; what runs goes on."""
        name = _name_of(request)
        read = await self._bodies.optional(request, "reason")
        reason = read.value.get("reason")
        if "reason" in read.value and not (isinstance(reason, str) and 0 < len(reason) <= REASON_MAX):
            raise Invalid([FieldError("/reason", f"must be a string of 1 to {REASON_MAX} characters")])
        return await self._set(name, await self._deps.store.pause(name, reason))

    @op("Resume a queue", tag="queues", answers={200: schemas.Queue}, problems=(404, 429, 503))
    async def resume(self, request: Request) -> Answer:
        """Its jobs start again."""
        name = _name_of(request)
        return await self._set(name, await self._deps.store.resume(name))

    async def _set(self, name: str, found: bool) -> Answer:  # noqa: FBT001
        if not found:
            raise not_found(f"queue {name}")
        await self._changed(name)
        return json_answer(await self._queue(name))

    async def _changed(self, name: str) -> None:
        self._deps.catalog.forget()
        await self._deps.events.publish("queues", name.encode())

    async def _queue(self, name: str) -> dict[str, Any]:
        for queue in await self._deps.store.queues():
            if queue.name == name:
                return queue_document(queue)
        raise not_found(f"queue {name}")


def _name_of(request: Request) -> str:
    name: str = request.path_params["name"]
    if not is_name(name):
        raise not_found(f"queue {name[:80]!r}")
    return name
