"""Errors as problem documents (RFC 9457) with stable types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

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
from taskflow.tasks.jsontext import Malformed

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = 2


class Problem(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        kind: last part of the stable type, such as `not-found`.
        detail: what was wrong and what to do.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    def document(self, instance: str | None = None) -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = {
            "type": f"urn:taskflow:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if instance:
            document["instance"] = instance
        if self.errors:
            document["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in self.errors]
        return document | self.more

    def response(self, request: Request | None = None) -> Response:
        """The problem as an answer."""
        body = orjson.dumps(self.document(request.url.path if request else None))
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """The problem that an error of ours is."""
    match error:
        case Problem():
            return error
        case Malformed():
            return Problem(400, "malformed-json", str(error))
        case Invalid():
            return Problem(422, "invalid", "the request does not fit; see errors", errors=error.errors)
        case NotFound():
            return Problem(404, "not-found", str(error))
        case Conflict():
            return Problem(409, "conflict", str(error))
        case DataRejected():
            return Problem(422, "unstorable", f"a value of this job cannot be stored: {error}")
        case StoreUnavailable() | ArtifactsUnavailable() | TimeoutError():
            detail = str(error) or "the store did not answer in time"
            return Problem(503, "unavailable", detail, headers={"Retry-After": str(RETRY_AFTER)})
        case TaskFlowError():
            return Problem(400, "bad-request", str(error))
    return Problem(500, "internal", "something went wrong here; the log has the request's id")


def not_found(what: str) -> Problem:
    """A 404."""
    return Problem(404, "not-found", f"there is no {what}")
