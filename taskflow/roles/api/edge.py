"""The edge: what holds for every request before and after its handler. Pure ASGI, one pass over the headers."""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskflow.core.ids import request_id as new_request_id
from taskflow.core.limits import is_name
from taskflow.roles.api.client import CLIENT, HEADERS, KEY, Keys, Proxies
from taskflow.roles.api.headers import find, joined
from taskflow.roles.api.problems import Problem, problem_of

REQUEST_ID: Final = "taskflow.request_id"
URL_BYTES: Final = 8 << 10
HEADER_BYTES: Final = 16 << 10
HEADER_COUNT: Final = 100
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

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
        size = find(scope)
        request_id = joined(scope, b"x-request-id")
        if request_id is None or not is_name(request_id):
            request_id = new_request_id()
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
            await self._admit(scope, size)
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

    async def _admit(self, scope: Scope, size: int) -> None:
        if len(scope["headers"]) > HEADER_COUNT or size > HEADER_BYTES:
            raise Problem(431, "headers-too-large", f"at most {HEADER_COUNT} headers of {HEADER_BYTES} bytes together")
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > URL_BYTES:
            raise Problem(414, "uri-too-long", f"the URL is longer than {URL_BYTES} bytes")
        scope[CLIENT] = self._proxies.client(scope, joined(scope, b"x-forwarded-for") or "")
        if scope["method"] not in SAFE:
            _refuse_other_sites(scope)
        if self._keys and scope["path"].startswith("/api/") and scope["path"] not in self._public:
            scope[KEY] = await self._keys.check(joined(scope, b"authorization"), scope[CLIENT])


def _refuse_other_sites(scope: Scope) -> None:
    """A page of another site may make its visitor's browser post here: without keys the browser is all it takes."""
    origin, site = joined(scope, b"origin"), joined(scope, b"sec-fetch-site")
    if origin is None and site is None:
        return
    try:
        same = origin is None or urlsplit(origin).netloc.lower() == (joined(scope, b"host") or "").lower()
    except ValueError:
        same = False
    if site not in {None, "none", "same-origin"} or not same:
        raise Problem(403, "cross-origin", "a page of another site must not change anything here")
