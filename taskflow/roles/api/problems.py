"""Problem documents (RFC 9457): the one shape of every error, with a type that stays the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from taskflow.core.errors import (
    ArtifactsUnavailable,
    Conflict,
    DataRejected,
    FieldError,
    Invalid,
    NotFound,
    StoreUnavailable,
    TaskFlowError,
)
from taskflow.roles.api.answer import Answer, Header
from taskflow.tasks.jsonread import Malformed
from taskflow.tasks.jsontext import escaped

URN: Final = "urn:taskflow:problem:"
LATE: Final = "taskflow.late"
"""Scope key of a callable: the problem that it is when the deadline of the request passes now."""
PROBLEM_JSON: Final[Header] = (b"content-type", b"application/problem+json")
TITLES: Final = {
    "bad-request": "A header or query parameter is wrong",
    "malformed-json": "The body is no JSON",
    "bad-cursor": "The cursor is not one of this list",
    "unauthorized": "A valid key is needed",
    "cross-origin": "Another site may not do this",
    "not-found": "There is no such thing",
    "method-not-allowed": "The method is not allowed here",
    "request-timeout": "The request took too long to arrive",
    "conflict": "The thing is not in a state that allows this",
    "too-large": "The body is too large",
    "uri-too-long": "The URL is too long",
    "unsupported-media-type": "The body must be plain application/json",
    "invalid": "The body breaks the rules",
    "idempotency-key-reused": "The key belongs to another body",
    "rate-limited": "Too many requests",
    "headers-too-large": "The headers are too large",
    "internal": "Something unexpected went wrong",
    "store-unavailable": "The store does not answer now",
    "artifacts-unavailable": "The object store does not answer now",
}


@dataclass(eq=False)
class Problem(Exception):
    """An error answer.

    Attributes:
        slug: last part of its type, a key of `TITLES`.
        errors: each wrong field by JSON pointer into the body, `?name` of a query parameter, or header name.
    """

    status: int
    slug: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Sequence[Header] = ()

    def document(self, request_id: str = "") -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = {
            "type": URN + self.slug,
            "title": TITLES[self.slug],
            "status": self.status,
            "detail": escaped(self.detail),
        }
        if request_id:
            document["instance"] = f"urn:taskflow:request:{request_id}"
        if self.errors:
            document["errors"] = [
                {"pointer": escaped(error.pointer), "detail": escaped(error.detail)} for error in self.errors
            ]
        return document

    def answer(self, request_id: str) -> Answer:
        """The response."""
        return Answer(self.status, orjson.dumps(self.document(request_id)), (PROBLEM_JSON, *self.headers))


def wrong(where: str, detail: str) -> Problem:
    """A 400 for a query parameter (`?name`) or a header (its name)."""
    return Problem(400, "bad-request", f"{where} {detail}", [FieldError(where, detail)])


def not_found(what: str) -> Problem:
    """A 404."""
    return Problem(404, "not-found", f"there is no {what}")


def conflict(detail: str) -> Problem:
    """A 409."""
    return Problem(409, "conflict", detail)


def unavailable(detail: str, slug: str = "store-unavailable") -> Problem:
    """A 503 that says when to come back."""
    return Problem(503, slug, detail, headers=((b"retry-after", b"1"),))


def retry_after(seconds: float) -> Header:
    """When to come back, in whole seconds."""
    return (b"retry-after", b"%d" % max(1, math.ceil(seconds)))


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error of ours is for a client, `None` where it is nobody's fault but ours."""
    match error:
        case Problem():
            return error
        case Malformed():
            return Problem(400, "malformed-json", str(error))
        case Invalid():
            return Problem(422, "invalid", _summary(error.errors), error.errors)
        case DataRejected():
            return Problem(422, "invalid", "the store cannot keep a value of this document")
        case NotFound():
            return Problem(404, "not-found", str(error))
        case Conflict():
            return conflict(str(error))
        case StoreUnavailable():
            return unavailable("the store cannot be reached or cannot write now; send the request again")
        case ArtifactsUnavailable():
            return unavailable("the object store does not answer now; jobs run on", "artifacts-unavailable")
        case TimeoutError():
            return unavailable("no answer in time; send the request again")
        case TaskFlowError():
            return unavailable("a part of TaskFlow does not answer now; send the request again")
    return None


def _summary(errors: Sequence[FieldError]) -> str:
    first = f"{errors[0].pointer or 'the document'}: {errors[0].detail}"
    return first if len(errors) == 1 else f"{first} (and {len(errors) - 1} more)"
