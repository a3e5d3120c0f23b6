"""Query parameters of lists, and the cursor that leads to the next page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from starlette.requests import Request

from taskflow.core.errors import FieldError
from taskflow.core.job import Job, State
from taskflow.core.limits import DEFAULT_TENANT, is_name
from taskflow.flow.admit import instant, nearest
from taskflow.ports.store import JobQuery
from taskflow.roles.api.operation import Parameter
from taskflow.roles.api.problems import Problem, wrong

LIMIT: Final = 50
LIMIT_MAX: Final = 200
ERROR_TYPE_MAX: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_POSITION: Final = struct.Struct(">8sq16s")
_STATES: Final = frozenset(state.value for state in State)
_NAME: Final = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"}
_INSTANT: Final = {"type": "string", "format": "date-time"}

NAMES: Final = (
    Parameter("task", _NAME, "Only jobs of this task."),
    Parameter("queue", _NAME, "Only jobs of this queue."),
)
CREATED: Final = (
    Parameter("created_after", _INSTANT, "Only jobs created at this instant or later."),
    Parameter("created_before", _INSTANT, "Only jobs created before this instant."),
)
PAGE: Final = (
    Parameter("order", {"type": "string", "enum": ["asc", "desc"], "default": "desc"}, "By the instant of creation."),
    Parameter("limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}, "Most items."),
    Parameter("cursor", {"type": "string", "maxLength": 64}, "`next_cursor` of the page before, same filters."),
)
STATES: Final = (
    Parameter(
        "state",
        {"type": "array", "items": {"type": "string", "enum": [state.value for state in State]}},
        "Only jobs in these states; repeat it or separate them by commas.",
    ),
)
TAG: Final = (Parameter("tag", _NAME, "Only jobs with this tag."),)
ERROR_TYPE: Final = (
    Parameter(
        "error_type",
        {"type": "string", "minLength": 1, "maxLength": ERROR_TYPE_MAX},
        "Only jobs whose last error has this type.",
    ),
)
LIST: Final = (*STATES, *NAMES, *TAG, *CREATED, *PAGE)
DEAD: Final = (*NAMES, *ERROR_TYPE, *CREATED, *PAGE)


def job_query(request: Request, allowed: Iterable[Parameter], states: frozenset[State] | None = None) -> JobQuery:
    """The query of a list request.

    Args:
        allowed: the parameters it may have.
        states: fixes the states, instead of the parameter.

    Raises:
        Problem: 400 that names each wrong parameter.
    """
    query = Query(request, [parameter.name for parameter in allowed])
    found = JobQuery(
        tenant=DEFAULT_TENANT,
        limit=query.whole("limit", 1, LIMIT_MAX, LIMIT),
        states=query.states() if states is None else states,
        task=query.name("task"),
        queue=query.name("queue"),
        tag=query.name("tag"),
        error_type=query.error_type(),
        created_after=query.instant("created_after"),
        created_before=query.instant("created_before"),
        ascending=query.choice("order", "desc", "asc") == "asc",
    )
    query.check()
    cursor = query.text("cursor")
    if cursor is None:
        return found
    return replace(found, after=_position(cursor, found))


def next_cursor(query: JobQuery, last: Job) -> str:
    """Where the page after `last` begins."""
    micros = (last.created_at - _EPOCH) // _MICROSECOND
    packed = _POSITION.pack(_binding(query), micros, UUID(last.id).bytes)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


class Query:
    """Readers of query parameters, which note what is wrong and go on.

    Args:
        known: names that may occur; others are refused, since a misspelt filter would silently filter nothing.
    """

    def __init__(self, request: Request, known: Iterable[str]) -> None:
        self._values: dict[str, list[str]] = {}
        self._errors: list[FieldError] = []
        allowed = list(known)
        for name, value in request.query_params.multi_items():
            if name in allowed:
                self._values.setdefault(name, []).append(value)
            else:
                self._wrong(name[:100], f"is not known here{nearest(name, allowed)}")

    def text(self, name: str) -> str | None:
        """A parameter that occurs once."""
        values = self._values.get(name, [])
        if len(values) > 1:
            self._wrong(name, "must not be repeated")
        return values[0] if values else None

    def name(self, name: str) -> str | None:
        """A name."""
        value = self.text(name)
        if value is not None and not is_name(value):
            self._wrong(name, f"must be 1 to 128 letters, digits, '.', '_', ':' or '-', not {value[:80]!r}")
        return value

    def whole(self, name: str, low: int, high: int, default: int) -> int:
        """A whole number."""
        value = self.text(name)
        if value is None:
            return default
        if value.isascii() and value.isdecimal() and len(value) < 20 and low <= int(value) <= high:
            return int(value)
        self._wrong(name, f"must be a whole number from {low} to {high}, not {value[:80]!r}")
        return default

    def choice(self, name: str, *allowed: str) -> str:
        """One of a few words, the first unless said."""
        value = self.text(name)
        if value is not None and value not in allowed:
            self._wrong(name, f"must be one of {', '.join(allowed)}, not {value[:80]!r}")
        return allowed[0] if value is None else value

    def instant(self, name: str) -> datetime | None:
        """An RFC 3339 instant."""
        value = self.text(name)
        if value is None:
            return None
        try:
            # A plus sign that was not percent-encoded has become a space.
            return instant(value.replace(" ", "+"))
        except ValueError as error:
            self._wrong(name, str(error))
            return None

    def states(self) -> frozenset[State]:
        """States, repeated or separated by commas."""
        words = [word for value in self._values.get("state", []) for word in value.split(",")]
        for word in words:
            if word not in _STATES:
                self._wrong("state", f"{word[:80]!r} is no state: use some of {', '.join(State)}")
        return frozenset(State(word) for word in words if word in _STATES)

    def error_type(self) -> str | None:
        """The type of an error."""
        value = self.text("error_type")
        if value is not None and not (0 < len(value) <= ERROR_TYPE_MAX and value.isprintable()):
            self._wrong("error_type", f"must be 1 to {ERROR_TYPE_MAX} printable characters")
        return value

    def check(self) -> None:
        """Refuse what was noted.

        Raises:
            Problem: 400.
        """
        if self._errors:
            first = self._errors[0]
            raise Problem(400, "bad-request", f"{first.pointer} {first.detail}", self._errors[:50])

    def _wrong(self, name: str, detail: str) -> None:
        self._errors.append(FieldError(f"?{name}", detail))


def _binding(query: JobQuery) -> bytes:
    """A hash of the filter, so that a cursor is refused where it would lead to a list that nobody asked for."""
    text = repr(replace(query, states=frozenset(), limit=0, after=None)) + ",".join(sorted(query.states))
    return hashlib.sha256(text.encode()).digest()[:8]


def _position(cursor: str, query: JobQuery) -> tuple[datetime, str]:
    try:
        packed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        binding, micros, raw = _POSITION.unpack(packed)
        moment = _EPOCH + micros * _MICROSECOND
    except (binascii.Error, struct.error, ValueError, OverflowError):
        raise _bad_cursor("is none that this API has given") from None
    if binding != _binding(query):
        raise _bad_cursor("belongs to a list with other filters: keep them while you page")
    return moment, str(UUID(bytes=raw))


def _bad_cursor(detail: str) -> Problem:
    problem = wrong("?cursor", detail)
    problem.slug = "bad-cursor"
    return problem
