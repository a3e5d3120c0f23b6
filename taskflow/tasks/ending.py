"""From what a handler returned or raised to how its run ended."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, Final

from taskflow.core.job import ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending
from taskflow.core.limits import ERROR_BYTES, RESULT_BYTES
from taskflow.tasks import jsontext
from taskflow.tasks.declare import Task
from taskflow.tasks.signals import Fail, Retry, Snooze

MESSAGE_BYTES: Final = 8_000
TYPE_CHARACTERS: Final = 200


def ending_of_value(value: Any) -> Ending:
    """How a run ended that returned a value. One that cannot be kept fails the job at once: running again would not
    help, and the work is done."""
    try:
        text = jsontext.dumps(value)
    except jsontext.Unstorable as error:
        return _final("UnstorableResult", f"the handler returned what JSON cannot hold: {error}")
    except BaseException as error:
        told = f"the handler returned what cannot be turned into JSON: {type(error).__name__}: {_message(error)}"
        return _final("UnstorableResult", told[:2_000])
    size = len(text.encode())
    if size > RESULT_BYTES:
        return _final(
            "UnstorableResult",
            f"the handler returned {size:,} bytes of JSON, more than {RESULT_BYTES:,}: keep it as an artifact",
        )
    return Ending(outcome=Outcome.SUCCEEDED, result=text)


def ending_of_error(task: Task[..., Any], error: BaseException) -> Ending:
    """How a run ended that raised, whatever looking at the exception raises in its turn."""
    try:
        return _ending_of_error(task, error)
    except BaseException:
        message = "the handler raised an exception that raises another one when it is looked at"
        return Ending(outcome=Outcome.FAILED, error=ErrorInfo("Unreadable", message))


def _ending_of_error(task: Task[..., Any], error: BaseException) -> Ending:
    match error:
        case Snooze():
            return Ending(outcome=Outcome.SNOOZED, after=error.after)
        case Retry():
            return Ending(outcome=Outcome.FAILED, error=ErrorInfo("Retry", _message(error)), after=error.after)
        case Fail():
            return Ending(outcome=Outcome.FAILED, error=ErrorInfo("Fail", _message(error)), final=True)
        case _:
            final = isinstance(error, task.retry.give_up_on)
            return Ending(outcome=Outcome.FAILED, error=error_info(error), final=final)


def error_info(error: BaseException) -> ErrorInfo:
    """An exception as it is kept: storable whatever it holds, 16 KiB at most."""
    try:
        lines = "".join(traceback.format_exception(error, limit=-30))
    except BaseException as broken:
        lines = f"(the traceback cannot be written: {type(broken).__name__})"
    kind, message = type(error).__name__[:TYPE_CHARACTERS], _message(error)
    room = ERROR_BYTES - len(kind.encode()) - len(message.encode())
    return ErrorInfo(kind, message, _tail(jsontext.escaped(lines), room))


def to_wire(ending: Ending) -> dict[str, Any]:
    """An ending as JSON values, for the way from a child process."""
    error = ending.error
    return {
        "outcome": ending.outcome.value,
        "result": ending.result,
        "after": ending.after,
        "final": ending.final,
        "error": [error.type, error.message, error.traceback] if error else None,
    }


def from_wire(values: Mapping[str, Any]) -> Ending:
    """The ending that `to_wire` wrote."""
    error = values["error"]
    return Ending(
        outcome=Outcome(values["outcome"]),
        result=values["result"],
        after=values["after"],
        final=values["final"],
        error=ErrorInfo(*error) if error else None,
    )


def _final(kind: str, message: str) -> Ending:
    return Ending(outcome=Outcome.FAILED, error=ErrorInfo(kind, _head(message)), final=True)


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as broken:
        text = f"(its text cannot be read: {type(broken).__name__})"
    return _head(text)


def _head(text: str) -> str:
    # Escaped before it is cut: what is escaped may be six times as long.
    raw = jsontext.escaped(text[:MESSAGE_BYTES]).encode()
    return raw[:MESSAGE_BYTES].decode("utf-8", "ignore")


def _tail(text: str, room: int) -> str:
    raw = text.encode()
    mark = "…"
    return text if len(raw) <= room else mark + raw[len(mark.encode()) - room :].decode("utf-8", "ignore")
