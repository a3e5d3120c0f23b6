"""What the commands that talk to an API share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from taskflow.core.errors import TaskFlowError

if TYPE_CHECKING:
    from taskflow.client import Client

OK: Final = 0
JOB_FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
WAIT_RAN_OUT: Final = 124
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
LOCAL: Final = "http://127.0.0.1:8000"

Json = Annotated[bool, Parameter(name="--json", help="print JSON, for scripts", negative="")]
Url = Annotated[str | None, Parameter(help=f"address of the API; else TASKFLOW_URL, else {LOCAL}")]
Page = Annotated[int | None, Parameter(help="most items, 1 to 200; else 50")]
Cursor = Annotated[str | None, Parameter(help="where the last page ended")]


class Misused(TaskFlowError):
    """The command line makes no sense."""


def client(url: str | None) -> Client:
    """The API that commands talk to; the key is TASKFLOW_API_KEY's, where the process list does not show it."""
    from taskflow.client import Client  # noqa: PLC0415 - costs a third of a second

    return Client(url or os.environ.get("TASKFLOW_URL") or LOCAL, os.environ.get("TASKFLOW_API_KEY"))


def code_of(error: TaskFlowError) -> int:
    """The exit code that an error means."""
    from taskflow.client import ProblemError, Unreachable, WaitRanOut  # noqa: PLC0415 - costs a third of a second

    match error:
        case WaitRanOut():
            return WAIT_RAN_OUT
        case Unreachable():
            return UNREACHABLE
        case ProblemError(status=404):
            return NOT_FOUND
        case ProblemError(status=status) if status >= 500:
            return UNREACHABLE
    return USAGE


def payload_of(text: str | None, arguments: Sequence[str] = ()) -> dict[str, Any] | None:
    """The payload that `--payload` and `--arg` make; `None` where neither is given.

    Raises:
        Misused: it is no JSON object, or an argument has no name.
    """
    if text is None and not arguments:
        return None
    payload = {} if text is None else _object(sys.stdin.read() if text == "-" else text)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise Misused(f"--arg {argument!r}: use name=value")
        try:
            payload[name] = _read(value)
        except ValueError:
            payload[name] = value
    return payload


def _object(text: str) -> dict[str, Any]:
    try:
        value = _read(text)
    except ValueError as error:
        raise Misused(f"--payload is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise Misused(f"--payload must be a JSON object, the keyword arguments of the task, not {text[:60]!r}")
    return value


def _read(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large")
    return number


def until_the_end(api: Client, job_id: str, seconds: float | None, show: Callable[[Any], None]) -> int:
    """Wait for a job and show it; the exit code says how it ended."""
    job = api.wait(job_id, seconds)
    show(job)
    return OK if job["state"] == "succeeded" else JOB_FAILED
