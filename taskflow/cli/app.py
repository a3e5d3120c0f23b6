"""Commands: start TaskFlow, or talk to one over HTTP."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from cyclopts import App, CycloptsError, Parameter

from taskflow import __version__
from taskflow.cli import show
from taskflow.cli.admin import add_admin
from taskflow.client import Client, ProblemError, Unreachable
from taskflow.core.errors import TaskFlowError

OK: Final = 0
JOB_FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
WAIT_RAN_OUT: Final = 124
POLL: Final = 0.5

app = App(name="taskflow", version=__version__, help="A self-hosted job orchestrator.")
jobs_app = App(name="jobs", help="Look at jobs, stop and replay them.")
queues_app = App(name="queues", help="Look at queues, pause and resume them.")
dead_app = App(name="dead", help="Failed jobs: look, replay, purge.")
for part in (jobs_app, queues_app, dead_app):
    app.command(part)
add_admin(app)

Json = Annotated[bool, Parameter(name="--json", help="print JSON, for scripts", negative="")]
Url = Annotated[str | None, Parameter(help="address of the API; else TASKFLOW_URL, else http://127.0.0.1:8000")]
Page = Annotated[int, Parameter(help="most items, 1 to 200")]
JOB_COLUMNS: Final = ("id", "task", "queue", "state", "reason", "attempt", "created_at")


def client(url: str | None) -> Client:
    """The API that commands talk to."""
    return Client(url or os.environ.get("TASKFLOW_URL", "http://127.0.0.1:8000"), os.environ.get("TASKFLOW_API_KEY"))


@app.command
def submit(
    task: str,
    /,
    *,
    payload: Annotated[str | None, Parameter(help="JSON object, or - to read it from standard input")] = None,
    arg: Annotated[list[str] | None, Parameter(help="name=value; the value is JSON where it reads as JSON")] = None,
    queue: str | None = None,
    priority: int | None = None,
    delay: str | None = None,
    run_at: str | None = None,
    max_attempts: int | None = None,
    timeout: str | None = None,
    tag: list[str] | None = None,
    key: Annotated[str | None, Parameter(help="idempotency key")] = None,
    wait: Annotated[bool, Parameter(help="wait for the end; exit 1 if the job failed", negative="")] = False,
    wait_seconds: Annotated[float | None, Parameter(help="wait no longer than this; exit 124")] = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Submit a job."""
    body = {
        "task": task, "payload": _payload(payload, arg or []), "queue": queue, "priority": priority, "delay": delay,
        "run_at": run_at, "max_attempts": max_attempts, "timeout": timeout, "tags": tag,
    }  # fmt: skip
    with client(url) as api:
        job = api.submit({name: value for name, value in body.items() if value is not None}, key=key)
        if wait or wait_seconds is not None:
            return _wait(api, job["id"], wait_seconds, as_json=as_json)
    _one(job, as_json=as_json)
    return OK


@jobs_app.command(name="list")
def list_jobs(
    *, state: str | None = None, task: str | None = None, queue: str | None = None, tag: str | None = None,
    limit: Page = 50, cursor: str | None = None, as_json: Json = False, url: Url = None,
) -> int:  # fmt: skip
    """List jobs, newest first."""
    with client(url) as api:
        page = api.get("/jobs", state=state, task=task, queue=queue, tag=tag, limit=limit, cursor=cursor)
    return _page(page, JOB_COLUMNS, as_json=as_json)


@jobs_app.command(name="show")
def show_job(job_id: str, /, *, as_json: Json = False, url: Url = None) -> int:
    """Show one job."""
    with client(url) as api:
        _one(api.job(job_id), as_json=as_json)
    return OK


@jobs_app.command(name="wait")
def wait_job(job_id: str, /, *, seconds: float | None = None, as_json: Json = False, url: Url = None) -> int:
    """Wait for a job's end; exit 1 if it did not succeed, 124 if it took too long."""
    with client(url) as api:
        return _wait(api, job_id, seconds, as_json=as_json)


@jobs_app.command(name="cancel")
def cancel_job(job_id: str, /, *, as_json: Json = False, url: Url = None) -> int:
    """Cancel a job."""
    with client(url) as api:
        _one(api.post(f"/jobs/{job_id}/cancel"), as_json=as_json)
    return OK


@jobs_app.command(name="replay")
def replay_job(job_id: str, /, *, payload: str | None = None, as_json: Json = False, url: Url = None) -> int:
    """Run a failed job again, with another payload if one is given."""
    body = {} if payload is None else {"payload": _payload(payload, [])}
    with client(url) as api:
        _one(api.post(f"/jobs/{job_id}/replay", body), as_json=as_json)
    return OK


@app.command
def logs(
    job_id: str, /, *, follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative="")] = False,
    epoch: int | None = None, url: Url = None,
) -> int:  # fmt: skip
    """Print what a job's runs wrote; -f goes on until the job is over."""
    seen = 0
    with client(url) as api:
        while True:
            text, state = api.logs(job_id, after=seen, epoch=epoch)
            sys.stdout.write(text)
            sys.stdout.flush()
            seen += text.count("\n")
            if not follow or state != "pending":
                return OK
            time.sleep(POLL)


@queues_app.command(name="list")
def list_queues(*, as_json: Json = False, url: Url = None) -> int:
    """List queues."""
    with client(url) as api:
        return _page(
            api.get("/queues"), ("name", "depth", "running", "oldest", "paused", "pause_reason"), as_json=as_json
        )


@queues_app.command
def pause(name: str, /, *, reason: str | None = None, url: Url = None) -> int:
    """Start no more jobs of a queue."""
    with client(url) as api:
        api.post(f"/queues/{name}/pause", {"reason": reason})
    return OK


@queues_app.command
def resume(name: str, /, *, url: Url = None) -> int:
    """Start jobs of a queue again."""
    with client(url) as api:
        api.post(f"/queues/{name}/resume")
    return OK


@dead_app.command(name="list")
def list_dead(
    *, task: str | None = None, queue: str | None = None, error_type: str | None = None, limit: Page = 50,
    as_json: Json = False, url: Url = None,
) -> int:  # fmt: skip
    """List failed jobs."""
    with client(url) as api:
        page = api.get("/dead-letters", task=task, queue=queue, error_type=error_type, limit=limit)
    for job in page["items"]:
        job["message"] = f"{job['error']['type']}: {job['error']['message']}" if job["error"] else job["reason"]
    return _page(page, ("id", "task", "reason", "attempt", "message"), as_json=as_json)


@dead_app.command(name="replay")
def replay_dead(*ids: str, task: str | None = None, error_type: str | None = None, url: Url = None) -> int:
    """Replay failed jobs by id, or all of a task or an error type."""
    return _dead("replay", ids, task, error_type, url)


@dead_app.command(name="purge")
def purge_dead(*ids: str, task: str | None = None, error_type: str | None = None, url: Url = None) -> int:
    """Delete failed jobs by id, or all of a task or an error type."""
    return _dead("purge", ids, task, error_type, url)


@app.command
def tasks(*, as_json: Json = False, url: Url = None) -> int:
    """List the tasks that can be submitted."""
    with client(url) as api:
        return _page(api.get("/tasks"), ("name", "queue", "runs_in", "live_workers", "description"), as_json=as_json)


@app.command
def workers(*, as_json: Json = False, url: Url = None) -> int:
    """List workers."""
    with client(url) as api:
        return _page(api.get("/workers"), ("id", "state", "host", "pid", "heartbeat_at"), as_json=as_json)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        Its exit code.
    """
    try:
        result = app(list(arguments), exit_on_error=False, result_action="return_value")
        return result if isinstance(result, int) else OK
    except CycloptsError:
        return USAGE
    except ProblemError as error:
        print(error, file=sys.stderr)
        return NOT_FOUND if error.status == 404 else UNREACHABLE if error.status == 503 else USAGE
    except Unreachable as error:
        print(error, file=sys.stderr)
        return UNREACHABLE
    except TaskFlowError as error:
        print(error, file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130


def _wait(api: Client, job_id: str, seconds: float | None, *, as_json: bool) -> int:
    try:
        job = api.wait(job_id, seconds)
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return WAIT_RAN_OUT
    _one(job, as_json=as_json)
    return OK if job["state"] == "succeeded" else JOB_FAILED


def _payload(text: str | None, arguments: Sequence[str]) -> Any:
    if text == "-":
        text = sys.stdin.read()
    try:
        payload = json.loads(text) if text is not None else {}
    except ValueError as error:
        raise TaskFlowError(f"--payload is no JSON: {error}") from None
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            raise TaskFlowError(f"--arg {argument!r}: use name=value")
        try:
            payload[name] = json.loads(value)
        except ValueError:
            payload[name] = value
    return payload


def _one(job: Any, *, as_json: bool) -> None:
    (show.as_json if as_json else show.job)(job)


def _page(page: Any, columns: Sequence[str], *, as_json: bool) -> int:
    if as_json:
        show.as_json(page)
        return OK
    show.table(page["items"], columns)
    if page["next_cursor"]:
        print(f"more: --cursor {page['next_cursor']}", file=sys.stderr)
    return OK


def _dead(
    verb: Literal["replay", "purge"], ids: Sequence[str], task: str | None, error_type: str | None, url: str | None
) -> int:
    wanted = {name: value for name, value in (("task", task), ("error_type", error_type)) if value}
    if bool(ids) == bool(wanted):
        raise TaskFlowError("name job ids, or --task or --error-type, and not both")
    with client(url) as api:
        items = api.post(f"/dead-letters/{verb}", {"ids": list(ids)} if ids else {"filter": wanted})["items"]
    show.table(items, ("id", "status"))
    return OK if all(item["status"] == 200 for item in items) else JOB_FAILED
