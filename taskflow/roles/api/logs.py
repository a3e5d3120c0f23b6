"""GET /logs/{id}: what the runs of a job wrote, as text or as NDJSON."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.requests import Request

from taskflow.core.errors import ArtifactsUnavailable, NotFound
from taskflow.core.job import Job
from taskflow.core.limits import DEFAULT_TENANT
from taskflow.flow import capture
from taskflow.flow.logs import INDEXED
from taskflow.ports.artifacts import Artifacts
from taskflow.ports.store import Segment
from taskflow.roles.api.answer import NO_CACHE, Answer
from taskflow.roles.api.deps import ApiDeps
from taskflow.roles.api.jobs import job_id_of
from taskflow.roles.api.operation import Media, Parameter, op
from taskflow.roles.api.problems import not_found
from taskflow.roles.api.query import Query

PAUSE: Final = 0.05
FIRST: Final = 5.0
"""Seconds for the first lines, of which what they leave is for a look at the rest: an object store that hangs is told of
and not waited for."""
LOOKED_FOR: Final = 32
"""Objects of a log that are looked for before it is answered, to say whether it is whole."""
ANY: Final = ".ping"
"""An object that need not be there: whether it is says that the store answers."""
NDJSON: Final = "application/x-ndjson"
NUMBER_MAX: Final = 2**31 - 1
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": NUMBER_MAX}
_PARAMETERS: Final = (
    Parameter("epoch", _NUMBER, "Only lines of this execution."),
    Parameter("after", _NUMBER, "Leave out so many lines: those that the client has."),
)
# C0 but tab, DEL, C1, line and paragraph separators, and what changes the direction of writing.
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class LogRoutes:
    """Logs of jobs."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps

    @op(
        "Read a job's log",
        tag="logs",
        answers={200: Media(("text/plain", NDJSON))},
        parameters=_PARAMETERS,
        problems=(400, 404, 503),
        headers={
            200: {"Taskflow-Logs": "`pending`: more may come; `complete`; `truncated`: some of it is known to be lost."}
        },
    )
    async def get(self, request: Request) -> Answer:
        """Lines of all executions in order: text with control characters escaped, or, if asked for by Accept, NDJSON.
        The log of a job that is over is given up to 2 seconds for its last lines to be stored."""
        job_id = job_id_of(request)
        query = Query(request, [parameter.name for parameter in _PARAMETERS])
        epoch = query.whole("epoch", 0, NUMBER_MAX, -1)
        after = query.whole("after", 0, NUMBER_MAX, 0)
        query.check()
        job = await self._deps.store.get(DEFAULT_TENANT, job_id)
        if job is None:
            raise not_found(f"job {job_id}")
        pending = not job.state.terminal or await self._last_lines_missing(job)
        segments = await self._deps.store.segments(job_id, None if epoch < 0 else epoch)
        lines = _lines(segments, self._deps.artifacts)
        ndjson = NDJSON in request.headers.get("accept", "")
        deadline = asyncio.get_running_loop().time() + FIRST
        pending = pending or (not segments and await self._kept_elsewhere(job, deadline))
        # Both before the answer begins, so that an object store that is away is a 503.
        try:
            async with asyncio.timeout_at(deadline):
                first = await anext(lines, None)
        except TimeoutError:
            raise ArtifactsUnavailable(f"the log was not read within {FIRST:g} s") from None
        lost = any(segment.truncated for segment in segments) or await self._any_gone(segments, deadline)
        status = "truncated" if lost else "pending" if pending else "complete"
        headers = (
            (b"content-type", NDJSON.encode() if ndjson else b"text/plain; charset=utf-8"),
            (b"vary", b"accept"),
            (b"taskflow-logs", status.encode()),
            NO_CACHE,
        )
        if first is None:
            return Answer(200, b"", headers)
        return Answer(200, b"", headers, _shown(first, lines, after, (lambda line: line) if ndjson else as_text))

    async def _any_gone(self, segments: Sequence[Segment], deadline: float) -> bool:
        """Whether an object of the log is known to be gone; of a long log the first and the newest are asked for."""
        objects = list(dict.fromkeys(segment.object for segment in segments))
        objects = objects[:1] + objects[1:][1 - LOOKED_FOR :]
        gone = []

        async def look(name: str) -> None:
            if await self._deps.artifacts.stat(name) is None:
                gone.append(name)

        # A log that can be read is not kept back because the store is slow to say whether there is more of it.
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await asyncio.gather(*map(look, objects))
        return bool(gone)

    async def _last_lines_missing(self, job: Job) -> bool:
        asked = time.monotonic()
        until, indexed = asked + self._deps.settings.logs_wait, asked + await self._left_elsewhere(job)
        while self._deps.pending.pending(job.id) or time.monotonic() < indexed:
            if time.monotonic() > until or self._deps.stop.asked.is_set():
                return True
            await asyncio.sleep(PAUSE)
        return False

    async def _left_elsewhere(self, job: Job) -> float:
        """Seconds until the lines of a run of another process are indexed: what it holds cannot be asked for."""
        ended = self._ended_elsewhere(job)
        return 0.0 if ended is None else INDEXED - await self._deps.store.age(ended)

    async def _kept_elsewhere(self, job: Job, deadline: float) -> bool:
        """Whether the object store is away, so that another process may still have all that the job wrote."""
        if self._ended_elsewhere(job) is None:
            return False
        try:
            async with asyncio.timeout_at(deadline):
                await self._deps.artifacts.stat(ANY)
        except (TimeoutError, ArtifactsUnavailable):
            return True
        return False

    def _ended_elsewhere(self, job: Job) -> datetime | None:
        last = job.attempts[-1] if job.attempts else None
        return None if last is None or last.worker == self._deps.worker() else last.finished_at


def as_text(line: bytes) -> bytes:
    """One NDJSON line for a terminal: a line stays one line, and nothing in it is a command."""
    try:
        record: dict[str, Any] = orjson.loads(line)
        fields = "".join(f" {key}={_value(value)}" for key, value in (record.get("fields") or {}).items())
        level = str(record["level"]).upper()
        text = f"{record['ts']} {level:<8} [{record['epoch']}] {record['message']}{fields}"
    except (ValueError, TypeError, KeyError, AttributeError):
        text = line.decode("utf-8", "replace")
    return _CONTROL.sub(_escape, text.rstrip("\n")).encode() + b"\n"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return {"\n": "\\n", "\r": "\\r"}.get(character) or (
        f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    )


async def _lines(segments: list[Segment], artifacts: Artifacts) -> AsyncIterator[list[bytes]]:
    """The lines of each segment; instead of those whose object is gone, one that says so."""
    for segment in segments:
        try:
            text = await artifacts.read(segment.object, segment.offset, segment.length)
        except NotFound:
            text = capture.line(
                segment.epoch, "warning", "lines are missing here: their object is gone", {}, "taskflow"
            )
        yield text.splitlines(keepends=True)


async def _shown(
    first: list[bytes], rest: AsyncIterator[list[bytes]], after: int, form: Callable[[bytes], bytes]
) -> AsyncIterator[bytes]:
    skip = after
    lines: list[bytes] | None = first
    while lines is not None:
        wanted = lines[skip:]
        skip = max(0, skip - len(lines))
        if wanted:
            yield b"".join(map(form, wanted))
        lines = await anext(rest, None)
