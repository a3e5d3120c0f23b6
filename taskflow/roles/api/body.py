"""The body of a request: its type, its size while it comes, its time."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request

from taskflow.core.errors import FieldError, Invalid
from taskflow.flow.admit import nearest
from taskflow.roles.api.problems import Problem, wrong
from taskflow.tasks.jsontext import Document, document

THREAD_BYTES: Final = 256 << 10
"""Bodies beyond this are read in a thread, so that others are answered meanwhile."""
CLOSE: Final = ((b"connection", b"close"),)
EMPTY: Final = Document({}, {})


class Bodies:
    """Reads bodies.

    Args:
        limit: most bytes of a body, unless a call says otherwise.
        deadline: seconds in which a body must have come.
    """

    def __init__(self, limit: int, deadline: float) -> None:
        self._limit = limit
        self._deadline = deadline

    async def raw(self, request: Request, limit: int | None = None) -> bytes:
        """The bytes of a JSON body.

        Raises:
            Problem: 415, 413 or 408.
        """
        _check_type(request)
        return await self._read(request, self._limit if limit is None else limit)

    async def document(self, request: Request) -> Document:
        """A JSON object.

        Raises:
            Problem: 415, 413 or 408.
            Malformed: the body is no JSON.
            Invalid: it is no object, or holds what cannot be stored.
        """
        raw = await self.raw(request)
        if len(raw) > THREAD_BYTES:
            return await asyncio.to_thread(document, raw)
        return document(raw)

    async def optional(self, request: Request, *fields: str) -> Document:
        """A JSON object with some of `fields`, or nothing at all."""
        if "content-type" not in request.headers:
            raw = await self._read(request, self._limit)
            if raw.strip():
                _check_type(request)
            return EMPTY
        read = await self.document(request)
        only(read, *fields)
        return read

    async def _read(self, request: Request, limit: int) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._deadline):
                while True:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise _too_large(limit)
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Problem(
                408, "request-timeout", f"the body did not come within {self._deadline:g} s", headers=CLOSE
            ) from None


def only(read: Document, *fields: str) -> None:
    """Refuse what is none of `fields`.

    Raises:
        Invalid: names each, and what was perhaps meant.
    """
    errors = [
        FieldError("/" + name[:100].replace("~", "~0").replace("/", "~1"), f"is not known here{nearest(name, fields)}")
        for name in read.value
        if name not in fields
    ]
    if errors:
        raise Invalid(errors[:50])


def _check_type(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Problem(415, "unsupported-media-type", f"Content-Encoding {encoding[:40]!r} is not taken: send it plain")
    kinds = request.headers.getlist("content-type")
    kind, _, rest = (kinds[0] if len(kinds) == 1 else "").partition(";")
    charset = rest.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in {"", "utf-8"}:
        shown = ", ".join(kinds)[:80] or "no Content-Type"
        raise Problem(415, "unsupported-media-type", f"{shown!r} is not taken: send application/json in UTF-8")


def _too_large(limit: int) -> Problem:
    return Problem(413, "too-large", f"the body is larger than {limit} bytes", headers=CLOSE)


def header(request: Request, name: str) -> str | None:
    """A header that may be there once.

    Raises:
        Problem: it is there more than once.
    """
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise wrong(name, "must not be repeated")
    return values[0] if values else None
