"""Commands about what is around jobs: queues, dead letters, tasks, workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from taskflow.cli import show
from taskflow.cli.connect import JOB_FAILED, OK, Cursor, Json, Misused, Page, Url, client, payload_of

QUEUE: Final = ("name", "depth", "running", "oldest", "paused", "pause_reason")
TASK: Final = ("name", "queue", "runs_in", "live_workers", "description")
WORKER: Final = ("id", "state", "host", "pid", "queues", "heartbeat_at")
DEAD: Final = ("id", "task", "reason", "attempt", "message")

Task = Annotated[str | None, Parameter(help="those of this task")]
Queue = Annotated[str | None, Parameter(help="those of this queue")]
ErrorType = Annotated[str | None, Parameter(help="those that failed with this type")]
Payload = Annotated[
    str | None,
    Parameter(help="another payload: a JSON object, or - for standard input", allow_leading_hyphen=True),
]
All = Annotated[bool, Parameter(name="--all", help="every one, 1,000 at most", negative="")]

queues = App(name="queues", help="Look at queues, pause and resume them.")
dead = App(name="dead", help="Failed jobs: look, replay, purge.")


@queues.command(name="list")
def list_queues(*, as_json: Json = False, url: Url = None) -> int:
    """List queues."""
    return _listed("queues", QUEUE, url, as_json=as_json)


@queues.command
def pause(
    name: str,
    /,
    *,
    reason: Annotated[str | None, Parameter(help="shown to others")] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Start no more jobs of a queue."""
    with client(url) as api:
        show.rows([api.pause(name, reason)], QUEUE, as_json=as_json)
    return OK


@queues.command
def resume(name: str, /, *, as_json: Json = False, url: Url = None) -> int:
    """Start jobs of a queue again."""
    with client(url) as api:
        show.rows([api.resume(name)], QUEUE, as_json=as_json)
    return OK


@dead.command(name="list")
def list_dead(
    *,
    task: Task = None,
    queue: Queue = None,
    error_type: ErrorType = None,
    limit: Page = None,
    cursor: Cursor = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """List failed jobs."""
    with client(url) as api:
        page: Any = api.dead_letters(task=task, queue=queue, error_type=error_type, limit=limit, cursor=cursor)
    if not as_json:
        for job in page["items"]:
            job["message"] = f"{job['error']['type']}: {job['error']['message']}" if job["error"] else None
    show.page(page, DEAD, as_json=as_json)
    return OK


@dead.command(name="replay")
def replay_dead(
    *ids: str,
    task: Task = None,
    queue: Queue = None,
    error_type: ErrorType = None,
    every: All = False,
    payload: Payload = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Replay failed jobs by id, or those that fit."""
    where = _where(ids, task, queue, error_type, every=every)
    with client(url) as api:
        return _outcomes(api.replay_dead(ids, where, payload_of(payload)), as_json=as_json)


@dead.command(name="purge")
def purge_dead(
    *ids: str,
    task: Task = None,
    queue: Queue = None,
    error_type: ErrorType = None,
    every: All = False,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Delete failed jobs by id, or those that fit."""
    where = _where(ids, task, queue, error_type, every=every)
    with client(url) as api:
        return _outcomes(api.purge_dead(ids, where), as_json=as_json)


def tasks(*, as_json: Json = False, url: Url = None) -> int:
    """List the tasks that can be submitted."""
    return _listed("tasks", TASK, url, as_json=as_json)


def workers(*, as_json: Json = False, url: Url = None) -> int:
    """List workers."""
    return _listed("workers", WORKER, url, as_json=as_json)


def _listed(what: str, columns: Sequence[str], url: str | None, *, as_json: bool) -> int:
    with client(url) as api:
        show.page(api.get(f"/{what}"), columns, as_json=as_json)
    return OK


def _where(
    ids: Sequence[str], task: str | None, queue: str | None, error_type: str | None, *, every: bool
) -> dict[str, str] | None:
    """The filter; deleting or replaying everything must be said, not left out."""
    wanted = {"task": task, "queue": queue, "error_type": error_type}
    given = {name: value for name, value in wanted.items() if value is not None}
    if [bool(ids), bool(given), every].count(True) != 1:
        raise Misused("name job ids, or filter by --task, --queue or --error-type, or say --all")
    return None if ids else given


def _outcomes(items: Sequence[Any], *, as_json: bool) -> int:
    for item in items:
        if "problem" in item and not as_json:
            item["problem"] = item["problem"].get("detail")
    show.rows(items, ("id", "status", "problem"), as_json=as_json)
    return OK if all(item["status"] < 400 for item in items) else JOB_FAILED
