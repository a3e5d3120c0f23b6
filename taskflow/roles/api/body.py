"""The body of a request: its type, its size while it comes, its time."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request

from taskflow.core.errors import Invalid
from taskflow.flow.admit import unknown
from taskflow.roles.api.headers import values
from taskflow.roles.api.problems import LATE, Problem, wrong
from taskflow.tasks.jsonread import Document, document

THREAD_BYTES: Final = 256 << 10
"""Bodies beyond this are read in a thread, so that others are answered meanwhile."""
CLOSE: Final = ((b"connection", b"close"),)
EMPTY: Final = Document({}, {})


class Bodies:
    """Reads bodies.

    Args:
        limit: most bytes of a body, unless a call says otherwise.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit

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
        return await _parsed(await self.raw(request))

    async def optional(self, request: Request, *fields: str) -> Document:
        """A JSON object with some of `fields`, or nothing at all, whatever type a client says that nothing has."""
        raw = await self._read(request, self._limit)
        if not raw.strip():
            return EMPTY
        _check_type(request)
        read = await _parsed(raw)
        only(read, *fields)
        return read

    async def _read(self, request: Request, limit: int) -> bytes:
        declared = values(request.scope, b"content-length")
        if declared and declared[0].isdigit() and int(declared[0][:20]) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        request.scope[LATE] = _late
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
                del request.scope[LATE]
                return b"".join(parts)


def only(read: Document, *fields: str) -> None:
    """Refuse what is none of `fields`.

    Raises:
        Invalid: names the first 50, and what was perhaps meant.
    """
    if errors := unknown(read.value, fields, "is not known here"):
        raise Invalid(errors)


async def _parsed(raw: bytes) -> Document:
    return await asyncio.to_thread(document, raw) if len(raw) > THREAD_BYTES else document(raw)


def _check_type(request: Request) -> None:
    for encoding in values(request.scope, b"content-encoding"):
        if encoding.strip().lower() not in {b"", b"identity"}:
            shown = encoding.decode("latin-1")[:40]
            raise Problem(415, "unsupported-media-type", f"Content-Encoding {shown!r} is not taken: send it plain")
    kinds = values(request.scope, b"content-type")
    if len(kinds) == 1 and kinds[0] == b"application/json":
        return
    kind, _, rest = (kinds[0] if len(kinds) == 1 else b"").partition(b";")
    charset = rest.strip().lower().removeprefix(b"charset=").strip(b'"')
    if kind.strip().lower() != b"application/json" or charset not in {b"", b"utf-8"}:
        shown = b", ".join(kinds).decode("latin-1")[:80] or "no Content-Type"
        raise Problem(415, "unsupported-media-type", f"{shown!r} is not taken: send application/json in UTF-8")


def _late() -> Problem:
    return Problem(408, "request-timeout", "the body did not come in time", headers=CLOSE)


def _too_large(limit: int) -> Problem:
    return Problem(413, "too-large", f"the body is larger than {limit} bytes", headers=CLOSE)


def header(request: Request, name: bytes) -> str | None:
    """A header that may be there once.

    Raises:
        Problem: it is there more than once.
    """
    found = values(request.scope, name)
    if len(found) > 1:
        raise wrong(name.decode().title(), "must not be repeated")
    return found[0].decode("latin-1") if found else None
