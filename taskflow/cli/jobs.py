"""Commands about jobs: submit, look, wait, stop, replay, read what they wrote."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import App, Parameter

from taskflow.cli import show
from taskflow.cli.connect import (
    JOB_FAILED,
    OK,
    Cursor,
    Json,
    Misused,
    Page,
    Url,
    client,
    payload_of,
    until_the_end,
)
from taskflow.core.durations import seconds

COLUMNS: Final = ("id", "task", "queue", "state", "reason", "attempt", "created_at")

Payload = Annotated[
    str | None, Parameter(help="a JSON object, or - to read it from standard input", allow_leading_hyphen=True)
]
Arguments = Annotated[
    list[str] | None,
    Parameter(name="--arg", help="name=value of the payload; JSON where it reads as JSON, else text", negative=""),
]
Tags = Annotated[list[str] | None, Parameter(name="--tag", help="a tag; may be repeated", negative="")]
Longest = Annotated[str | None, Parameter(help="wait no longer than this (90, 5m); exit 124 then")]
Order = Annotated[str | None, Parameter(help="desc (newest first) or asc")]

jobs = App(name="jobs", help="Look at jobs, stop and replay them.")


def submit(
    task: str,
    /,
    *,
    payload: Payload = None,
    arg: Arguments = None,
    queue: str | None = None,
    priority: Annotated[int | None, Parameter(help="0 (low) to 9 (high)")] = None,
    delay: Annotated[str | None, Parameter(help="run it after this (30, 1h30m)")] = None,
    run_at: Annotated[str | None, Parameter(help="run it at this instant (2026-11-25T08:00:00Z)")] = None,
    max_attempts: int | None = None,
    timeout: Annotated[str | None, Parameter(help="longest time of one attempt (60, 10m)")] = None,
    tag: Tags = None,
    key: Annotated[str | None, Parameter(help="idempotency key: the same again is the same job")] = None,
    wait: Annotated[bool, Parameter(help="wait for the end; exit 1 if it did not succeed", negative="")] = False,
    wait_timeout: Longest = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """Submit a job."""
    body = {
        "task": task,
        "payload": payload_of(payload, arg or ()),
        "queue": queue,
        "priority": priority,
        "delay": delay,
        "run_at": run_at,
        "max_attempts": max_attempts,
        "timeout": timeout,
        "tags": tag,
    }
    longest = _seconds(wait_timeout)
    with client(url) as api:
        job = api.submit({name: value for name, value in body.items() if value is not None}, key=key)
        if wait or longest is not None:
            return until_the_end(api, job["id"], longest, show.one(as_json=as_json))
    show.one(as_json=as_json)(job)
    return OK


@jobs.command(name="list")
def list_jobs(
    *,
    state: Annotated[str | None, Parameter(help="states, with commas")] = None,
    task: str | None = None,
    queue: str | None = None,
    tag: str | None = None,
    order: Order = None,
    limit: Page = None,
    cursor: Cursor = None,
    as_json: Json = False,
    url: Url = None,
) -> int:
    """List jobs."""
    with client(url) as api:
        page = api.jobs(state=state, task=task, queue=queue, tag=tag, order=order, limit=limit, cursor=cursor)
    show.page(page, COLUMNS, as_json=as_json)
    return OK


@jobs.command(name="show")
def show_job(job_id: str, /, *, as_json: Json = False, url: Url = None) -> int:
    """Show one job."""
    with client(url) as api:
        show.one(as_json=as_json)(api.job(job_id))
    return OK


@jobs.command(name="wait")
def wait_job(job_id: str, /, *, timeout: Longest = None, as_json: Json = False, url: Url = None) -> int:
    """Wait for a job's end; exit 1 if it did not succeed, 124 if it took too long."""
    with client(url) as api:
        return until_the_end(api, job_id, _seconds(timeout), show.one(as_json=as_json))


@jobs.command(name="cancel")
def cancel_job(job_id: str, /, *, as_json: Json = False, url: Url = None) -> int:
    """Cancel a job."""
    with client(url) as api:
        show.one(as_json=as_json)(api.cancel(job_id))
    return OK


@jobs.command(name="replay")
def replay_job(
    job_id: str, /, *, payload: Payload = None, arg: Arguments = None, as_json: Json = False, url: Url = None
) -> int:
    """Run a failed job again, with another payload if one is given."""
    with client(url) as api:
        show.one(as_json=as_json)(api.replay(job_id, payload_of(payload, arg or ())))
    return OK


def logs(
    job_id: str,
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), help="go on until it is over", negative="")] = False,
    epoch: Annotated[int | None, Parameter(help="of this execution only")] = None,
    as_json: Annotated[bool, Parameter(name="--json", help="print NDJSON, for scripts", negative="")] = False,
    url: Url = None,
) -> int:
    """Print what a job's runs wrote."""
    with client(url) as api:
        if follow:
            for record in api.follow(job_id, epoch=epoch):
                show.log(record, as_json=as_json)
            return OK if api.job(job_id)["state"] == "succeeded" else JOB_FAILED
        records, state = api.log_records(job_id, epoch=epoch)
    for record in records:
        show.log(record, as_json=as_json)
    if state == "truncated":
        show.remark("the log is longer than what is kept: some lines are missing")
    return OK


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else seconds(text)
    except ValueError as error:
        raise Misused(str(error)) from None
