"""Answers: bytes with headers that are encoded once, and JSON documents made of texts that are spliced, not parsed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson
from starlette.types import Send

Header = tuple[bytes, bytes]

STEP_DEADLINE: Final = 60.0
"""Seconds that one chunk of a stream may take to be read and sent."""
JSON: Final[Header] = (b"content-type", b"application/json")
NO_CACHE: Final[Header] = (b"cache-control", b"no-cache")


class Answer:
    """A response. `stream` follows `body` where it is given; its first error before that is still a problem document.

    Args:
        body: what is sent; its length is declared unless there is a stream.
        headers: beside content-length; names in lower case.
    """

    __slots__ = ("body", "headers", "status", "stream")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: Sequence[Header] = (),
        stream: AsyncIterator[bytes] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.stream = stream

    async def send(self, send: Send, *, head: bool = False) -> None:
        """Send it; a HEAD request gets the headers of the GET."""
        headers = list(self.headers)
        if self.stream is None and self.status != 304:
            headers.append((b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        stream, self.stream = self.stream, None
        if stream is None or head:
            await send({"type": "http.response.body", "body": b"" if head else self.body})
        else:
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            more = True
            while more:
                # A reader or an object store that stands still must not hold the request for ever.
                async with asyncio.timeout(STEP_DEADLINE):
                    chunk = await anext(stream, None)
                    more = chunk is not None
                    await send({"type": "http.response.body", "body": chunk or b"", "more_body": more})
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def json_answer(document: Any, status: int = 200, headers: Sequence[Header] = ()) -> Answer:
    """A JSON document; `bytes` are one already."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return Answer(status, body, (JSON, NO_CACHE, *headers))


def etag_of(body: bytes) -> bytes:
    """A strong entity tag of a body."""
    return b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'


def matches(if_none_match: str | None, etag: bytes) -> bool:
    """Whether the client has this very body."""
    if not if_none_match:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag.decode() in tags
