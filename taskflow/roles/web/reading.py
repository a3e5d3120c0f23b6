"""Reading requests: bodies, headers and query parameters, strictly."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from starlette.requests import Request

from taskflow.core.errors import FieldError
from taskflow.core.ids import is_id
from taskflow.core.job import Idempotency, State
from taskflow.core.limits import BODY_BYTES, DEFAULT_TENANT, is_name
from taskflow.flow.admit import instant
from taskflow.ports.store import JobQuery
from taskflow.roles.web.problems import Problem, not_found
from taskflow.tasks import jsontext

WAIT_MOST: Final = 60.0
PAGE: Final = 50
PAGE_MOST: Final = 200
KEY_LENGTH: Final = 255
EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
MICROSECOND: Final = timedelta(microseconds=1)


async def body_of(request: Request, most: int = BODY_BYTES) -> bytes:
    """The body, counted while it comes."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(
            415, "unsupported-media-type", f"the body must be application/json, not {kind[:100] or 'untyped'!r}"
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported-media-type", "the body must not be compressed")
    return await raw_body(request, most)


async def raw_body(request: Request, most: int) -> bytes:
    """Whatever the body is."""
    too_large = Problem(413, "too-large", f"the body is larger than {most:,} bytes")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large
        parts.append(part)
    return b"".join(parts)


async def optional_document(request: Request) -> jsontext.Document:
    """The body's object, an empty one where there is no body."""
    raw = await raw_body(request, BODY_BYTES) if "content-type" not in request.headers else await body_of(request)
    return jsontext.document(raw) if raw.strip() else jsontext.Document({}, {})


def job_id_of(request: Request) -> str:
    """The job id in the path."""
    job_id = str(request.path_params["id"])
    if not is_id(job_id):
        raise not_found(f"job {job_id[:60]!r}")
    return job_id.lower()


def idempotency_of(request: Request, route: str, fingerprint: str) -> Idempotency | None:
    """The Idempotency-Key, bare or quoted."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 0 < len(key) <= KEY_LENGTH or not all(" " <= character <= "~" for character in key):
        raise Problem(400, "bad-idempotency-key", f"Idempotency-Key must be 1 to {KEY_LENGTH} printable characters")
    return Idempotency(route, key, fingerprint)


def fingerprint(body: Any) -> str:
    """What makes two bodies the same."""
    return hashlib.sha256(jsontext.canonical(body)).hexdigest()


def wait_of(request: Request) -> float | None:
    """Seconds of `Prefer: wait=n`, capped."""
    for preference in request.headers.get("prefer", "").replace(";", ",").split(","):
        name, _, value = preference.strip().partition("=")
        if name.strip().lower() == "wait" and value.strip().isdecimal():
            return min(WAIT_MOST, float(value.strip()[:6]))
    return None


class Query:
    """Query parameters, each checked, all errors told at once."""

    def __init__(self, request: Request, known: frozenset[str]) -> None:
        self._values = request.query_params
        self.errors: list[FieldError] = []
        for name in self._values:
            if name not in known:
                self.wrong(name[:100], f"there is no such parameter; known: {', '.join(sorted(known))}")

    def wrong(self, name: str, detail: str) -> None:
        """Note an error."""
        self.errors.append(FieldError(f"?{name}", detail))

    def done(self) -> None:
        """Raise if anything was wrong."""
        if self.errors:
            raise Problem(422, "invalid", "the query does not fit; see errors", errors=self.errors)

    def whole(self, name: str, low: int, high: int, default: int | None) -> Any:
        """A whole number."""
        text = self._values.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdecimal() or not low <= int(text[:12]) <= high:
            self.wrong(name, f"must be a whole number from {low} to {high:,}")
            return default
        return int(text)

    def name(self, name: str) -> str | None:
        """A name."""
        text = self._values.get(name)
        if text is not None and not is_name(text):
            self.wrong(name, "must be a name: 1 to 128 letters, digits, '.', '_', ':' or '-'")
        return text

    def moment(self, name: str) -> datetime | None:
        """An instant."""
        text = self._values.get(name)
        if text is None:
            return None
        try:
            return instant(text.replace(" ", "+"))
        except ValueError as error:
            self.wrong(name, str(error))
            return None

    def choice(self, name: str, *allowed: str) -> str:
        """One of a few words, the first by default."""
        text = self._values.get(name, allowed[0])
        if text not in allowed:
            self.wrong(name, f"must be one of {', '.join(allowed)}")
        return text

    def states(self) -> frozenset[State]:
        """States, repeated or with commas."""
        words = {word for value in self._values.getlist("state") for word in value.split(",") if word}
        wrong = sorted(words - set(State))
        if wrong:
            self.wrong("state", f"{wrong[0][:40]!r} is no state; use {', '.join(State)}")
        return frozenset(State(word) for word in words if word in set(State))


LIST_PARAMETERS: Final = frozenset(
    {"state", "task", "queue", "tag", "created_after", "created_before", "order", "limit", "cursor"}
)


def job_query(request: Request, states: frozenset[State] | None = None) -> JobQuery:
    """A page of jobs, from the query."""
    known = LIST_PARAMETERS if states is None else (LIST_PARAMETERS | {"error_type"}) - {"state"}
    query = Query(request, known)
    wanted = JobQuery(
        tenant=DEFAULT_TENANT,
        limit=query.whole("limit", 1, PAGE_MOST, PAGE),
        states=query.states() if states is None else states,
        task=query.name("task"),
        queue=query.name("queue"),
        tag=query.name("tag"),
        error_type=request.query_params.get("error_type") if states is not None else None,
        created_after=query.moment("created_after"),
        created_before=query.moment("created_before"),
        ascending=query.choice("order", "desc", "asc") == "asc",
    )
    query.done()
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return wanted
    return _with(wanted, after=_read_cursor(cursor, wanted))


def cursor_after(query: JobQuery, created_at: datetime, job_id: str) -> str:
    """An opaque cursor to what comes after a row, bound to the filter."""
    micros = (created_at - EPOCH) // MICROSECOND
    return base64.urlsafe_b64encode(orjson.dumps([micros, job_id, _mark(query)])).decode().rstrip("=")


def _read_cursor(text: str, query: JobQuery) -> tuple[datetime, str]:
    try:
        micros, job_id, mark = orjson.loads(base64.urlsafe_b64decode(text[:300] + "=" * (-len(text[:300]) % 4)))
        if mark != _mark(query) or not is_id(job_id):
            raise ValueError
        return EPOCH + timedelta(microseconds=micros), job_id
    except (ValueError, TypeError, AttributeError, OverflowError, binascii.Error):
        raise Problem(400, "bad-cursor", "the cursor is not one that this list, with this filter, gave out") from None


def _mark(query: JobQuery) -> str:
    parts = [
        sorted(query.states),
        query.task,
        query.queue,
        query.tag,
        query.error_type,
        str(query.created_after),
        str(query.created_before),
        query.ascending,
    ]
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:12]


def _with(query: JobQuery, **changes: Any) -> JobQuery:
    values: Mapping[str, Any] = {name: getattr(query, name) for name in query.__dataclass_fields__}
    return JobQuery(**{**values, **changes})
