"""The edge: what holds for every request before and after its handler. Pure ASGI, one pass over the headers."""

from __future__ import annotations

import logging
import os
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskflow.core.limits import is_name
from taskflow.roles.api.client import CLIENT, HEADERS, KEY, Keys, Proxies
from taskflow.roles.api.problems import Problem, problem_of

REQUEST_ID: Final = "taskflow.request_id"
URL_BYTES: Final = 8 << 10
HEADER_BYTES: Final = 16 << 10
HEADER_COUNT: Final = 100
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
WANTED: Final = frozenset(
    {b"x-request-id", b"authorization", b"x-forwarded-for", b"origin", b"sec-fetch-site", b"host"}
)

log = logging.getLogger("taskflow")


class Edge:
    """Gives each request an id, knows its client and key, refuses other sites, and turns what nobody caught into 500.

    Args:
        public: paths below `/api` that need no key.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, proxies: Proxies, public: frozenset[str]) -> None:
        self._app = app
        self._keys = keys
        self._proxies = proxies
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found, size = _headers(scope)
        request_id = found.get(b"x-request-id", "")
        if not is_name(request_id):
            request_id = os.urandom(12).hex()
        scope[REQUEST_ID] = request_id
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    *scope.get(HEADERS, ()),
                ]
            await send(message)

        try:
            await self._admit(scope, found, size)
            await self._app(scope, receive, answer)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                log.exception("request %s %s %s failed", request_id, scope["method"], scope["path"])
                problem = Problem(500, "internal", "the request failed; its id leads to the reason in the log")
            if started:
                # Half an answer is out: only a cut connection tells the client that it is no whole one.
                raise
            await problem.answer(request_id).send(answer, head=scope["method"] == "HEAD")

    async def _admit(self, scope: Scope, found: dict[bytes, str], size: int) -> None:
        if len(scope["headers"]) > HEADER_COUNT or size > HEADER_BYTES:
            raise Problem(431, "headers-too-large", f"at most {HEADER_COUNT} headers of {HEADER_BYTES} bytes together")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > URL_BYTES:
            raise Problem(414, "uri-too-long", f"the URL is longer than {URL_BYTES} bytes")
        scope[CLIENT] = self._proxies.client(scope, found.get(b"x-forwarded-for", ""))
        if scope["method"] not in SAFE:
            _refuse_other_sites(found)
        if self._keys and scope["path"].startswith("/api/") and scope["path"] not in self._public:
            scope[KEY] = await self._keys.check(found.get(b"authorization"), scope[CLIENT])


def _headers(scope: Scope) -> tuple[dict[bytes, str], int]:
    found: dict[bytes, str] = {}
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in WANTED:
            text = value.decode("latin-1")
            found[name] = f"{found[name]},{text}" if name in found else text
    return found, size


def _refuse_other_sites(found: dict[bytes, str]) -> None:
    """A page of another site may make its visitor's browser post here: without keys the browser is all it takes."""
    origin, site = found.get(b"origin"), found.get(b"sec-fetch-site", "none")
    try:
        same = origin is None or urlsplit(origin).netloc.lower() == found.get(b"host", "").lower()
    except ValueError:
        same = False
    if site not in {"none", "same-origin"} or not same:
        raise Problem(403, "cross-origin", "a page of another site must not change anything here")
