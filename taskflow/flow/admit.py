"""Admit: what a client sent becomes a job that can be stored, or every reason why not, all at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from taskflow.core.durations import seconds
from taskflow.core.errors import FieldError, Invalid
from taskflow.core.ids import new_id
from taskflow.core.job import Idempotency, NewJob
from taskflow.core.limits import (
    ATTEMPTS_MAX,
    DEFAULT_PRIORITY,
    DEFAULT_TENANT,
    HORIZON_SECONDS,
    PAYLOAD_BYTES,
    TIMEOUT_SECONDS_MAX,
    is_name,
)
from taskflow.ports.store import TaskInfo
from taskflow.tasks.jsonread import Document
from taskflow.tasks.jsontext import dumps
from taskflow.tasks.payload import checker

FIELDS: Final = (
    "task", "payload", "queue", "priority", "run_at", "delay", "max_attempts", "timeout", "expires_at", "tags", "metadata",
)  # fmt: skip
_KNOWN: Final = frozenset(FIELDS)
TAGS_MAX: Final = 32
METADATA_BYTES: Final = 16 << 10
ERRORS_SHOWN: Final = 50
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION: Final = re.compile(r"[0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+")


class UnknownName(Invalid):
    """The document names a task or a queue that the snapshot does not have; a newer one might."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the catalogue held at `taken` (seconds of the monotonic clock)."""

    tasks: Mapping[str, TaskInfo]
    queues: Collection[str]
    taken: float


def admit(
    document: Document,
    snapshot: Snapshot,
    now: datetime,
    *,
    idempotency: Idempotency | None = None,
    tenant: str = DEFAULT_TENANT,
) -> NewJob:
    """Turn a submit body into a job.

    Args:
        document: the body, read; payload and metadata are stored as they were written.
        now: this process's clock, to tell a `run_at` that has passed and to bound the horizon.

    Raises:
        UnknownName: something is wrong, and a task or a queue is unknown.
        Invalid: something else is wrong; names every field.
    """
    body = _Body(document)
    task = _task(body, snapshot)
    # Most jobs are a task and a payload: only what was sent is read.
    sent = document.value
    queue = _queue(body, task, snapshot) if "queue" in sent else task.queue if task else ""
    run_at, delay = _start(body, now) if "run_at" in sent or "delay" in sent else (None, None)
    expires_at = _expiry(body, now, run_at, delay) if "expires_at" in sent else None
    priority = body.whole("priority", 0, 9) if "priority" in sent else DEFAULT_PRIORITY
    attempts = body.whole("max_attempts", 1, ATTEMPTS_MAX) if "max_attempts" in sent else None
    timeout = body.duration("timeout", TIMEOUT_SECONDS_MAX) if "timeout" in sent else None
    if timeout == 0:
        body.wrong("timeout", "must be more than 0 seconds")
    tags = _tags(body) if "tags" in sent else "[]"
    metadata = _metadata(body) if "metadata" in sent else "{}"
    payload = _payload(body, task)
    if not _KNOWN.issuperset(sent):
        body.refuse_unknown_fields()
    if body.errors:
        raise (UnknownName if body.unknown_name else Invalid)(body.errors[:ERRORS_SHOWN])
    assert task is not None
    return NewJob(
        id=new_id(),
        task=task.name,
        queue=queue,
        priority=priority,
        runs_in=task.runs_in,
        payload=payload,
        max_attempts=task.max_attempts if attempts is None else attempts,
        timeout=task.timeout if timeout is None else timeout,
        run_at=run_at,
        delay=delay,
        expires_at=expires_at,
        tags=tags,
        metadata=metadata,
        idempotency=idempotency,
        tenant=tenant,
    )


class _Body:
    """A document under examination: readers of one field each, which note what is wrong and go on."""

    def __init__(self, document: Document) -> None:
        self.value = document.value
        self.source = document.source
        self.errors: list[FieldError] = []
        self.unknown_name = False

    def wrong(self, field: str, detail: str) -> None:
        self.errors.append(FieldError(f"/{field}", detail))

    def text(self, field: str) -> str | None:
        value = self.value.get(field)
        if isinstance(value, str):
            return value
        if field in self.value:
            self.wrong(field, f"must be a string, not {_shown(value)}")
        return None

    def whole(self, field: str, low: int, high: int) -> int:
        value = self.value[field]
        if type(value) is int and low <= value <= high:
            return value
        self.wrong(field, f"must be a whole number from {low} to {high}, not {_shown(value)}")
        return low

    def duration(self, field: str, most: float) -> float | None:
        if field not in self.value:
            return None
        value = self.value[field]
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError
            if isinstance(value, str) and not _DURATION.fullmatch(value):
                raise ValueError
            length = seconds(value)
        except ValueError:
            self.wrong(field, f"must be seconds or a text such as '1h30m', not {_shown(value)}")
            return None
        if length > most:
            self.wrong(field, f"must be at most {most:.0f} seconds, not {_shown(value)}")
            return None
        return length

    def instant(self, field: str) -> datetime | None:
        value = self.text(field)
        if value is None:
            return None
        try:
            return instant(value)
        except ValueError as error:
            self.wrong(field, str(error))
            return None

    def refuse_unknown_fields(self) -> None:
        self.errors += unknown(self.value, FIELDS, "is no field of a job")


def instant(value: str) -> datetime:
    """An RFC 3339 instant, in UTC.

    Raises:
        ValueError: it is none; says what would be one.
    """
    try:
        if not _INSTANT.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"must be an instant such as '2026-11-25T12:00:00Z' (RFC 3339, with its offset), not {_shown(value)}"
        ) from None


def unknown(names: Iterable[str], known: Collection[str], detail: str, under: str = "") -> list[FieldError]:
    """An error for each name that is not known, and what was perhaps meant; the first 50, since each takes its time."""
    strange = islice((name for name in names if name not in known), ERRORS_SHOWN)
    return [
        FieldError(f"{under}/" + name[:100].replace("~", "~0").replace("/", "~1"), f"{detail}{nearest(name, known)}")
        for name in strange
    ]


def nearest(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    # The cost of a comparison grows with the square of the length.
    near = difflib.get_close_matches(name, known, n=1) if len(name) <= 128 else []
    return f"; did you mean {near[0]!r}?" if near else ""


def _task(body: _Body, snapshot: Snapshot) -> TaskInfo | None:
    if "task" not in body.value:
        body.wrong("task", "is missing: name the task to run")
        return None
    name = body.text("task")
    if name is None:
        return None
    found = snapshot.tasks.get(name)
    if found is None:
        body.wrong("task", f"{_shown(name)} is no known task{nearest(name, snapshot.tasks.keys())}")
        body.unknown_name = True
    return found


def _queue(body: _Body, task: TaskInfo | None, snapshot: Snapshot) -> str:
    name = body.text("queue")
    if name is None:
        return task.queue if task else ""
    if name not in snapshot.queues:
        body.wrong("queue", f"{_shown(name)} is no known queue{nearest(name, snapshot.queues)}")
        body.unknown_name = True
    return name


def _start(body: _Body, now: datetime) -> tuple[datetime | None, float | None]:
    run_at = body.instant("run_at")
    delay = body.duration("delay", HORIZON_SECONDS)
    if "run_at" in body.value and "delay" in body.value:
        body.wrong("delay", "is set beside run_at: say one of them")
    if run_at is not None and run_at > now + timedelta(seconds=HORIZON_SECONDS):
        body.wrong("run_at", f"must be within 5 years, not {_shown(body.value['run_at'])}")
    if run_at is not None and run_at <= now:
        return None, delay
    return run_at, delay


def _expiry(body: _Body, now: datetime, run_at: datetime | None, delay: float | None) -> datetime | None:
    expires_at = body.instant("expires_at")
    if expires_at is None:
        return None
    # One year beyond the latest start there may be.
    if expires_at > now + timedelta(seconds=HORIZON_SECONDS + 366 * 86_400):
        body.wrong("expires_at", f"must be within 6 years, not {_shown(body.value['expires_at'])}")
    start = run_at if delay is None else now + timedelta(seconds=delay)
    if start is not None and expires_at <= start:
        body.wrong("expires_at", "must be after the job may start")
    return expires_at


def _tags(body: _Body) -> str:
    tags = body.value.get("tags", [])
    if not isinstance(tags, list):
        body.wrong("tags", f"must be an array of names, not {_shown(tags)}")
        return "[]"
    if len(tags) > TAGS_MAX:
        body.wrong("tags", f"holds {len(tags)} tags: {TAGS_MAX} is the most")
        return "[]"
    for index, tag in enumerate(tags):
        if not isinstance(tag, str) or not is_name(tag):
            body.wrong(f"tags/{index}", f"must be 1 to 128 letters, digits, '.', '_', ':' or '-', not {_shown(tag)}")
        elif tag in tags[:index]:
            body.wrong(f"tags/{index}", f"{tag!r} is there twice")
    return dumps(tags) if tags and not body.errors else "[]"


def _metadata(body: _Body) -> str:
    metadata = body.value.get("metadata", {})
    if not isinstance(metadata, dict):
        body.wrong("metadata", f"must be an object, not {_shown(metadata)}")
    text = body.source.get("metadata", "{}")
    if len(text.encode()) > METADATA_BYTES:
        body.wrong("metadata", f"is {len(text.encode())} bytes long: {METADATA_BYTES} is the most")
    return text


def _payload(body: _Body, task: TaskInfo | None) -> str:
    payload = body.value.get("payload", {})
    text = body.source.get("payload", "{}")
    if not isinstance(payload, dict):
        body.wrong("payload", f"must be an object of keyword arguments, not {_shown(payload)}")
    elif len(text) > PAYLOAD_BYTES or len(text.encode()) > PAYLOAD_BYTES:
        body.wrong("payload", f"is {len(text.encode())} bytes long: {PAYLOAD_BYTES} is the most")
    elif task is not None:
        body.errors += payload_errors(task, payload)
    return text


def payload_errors(task: TaskInfo, payload: Any) -> list[FieldError]:
    """What in a payload does not fit a task."""
    return checker(task.schema).errors(payload)


def _shown(value: Any) -> str:
    """A value in an error: short, on one line."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) is int and value.bit_length() > 300:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
