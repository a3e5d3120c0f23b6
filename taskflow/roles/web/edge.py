"""The edge: request ids, keys, rate limits, and every error as a problem. Pure ASGI, since every request pays for it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import math
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskflow.core.ids import new_id
from taskflow.core.limits import is_name
from taskflow.ports.limiter import RateLimiter, Verdict
from taskflow.roles.web.deps import ApiSettings
from taskflow.roles.web.problems import Problem, problem_of

OPEN: Final = frozenset({"/api/v1/health", "/api/v1/health/live", "/api/v1/health/ready"})

log = logging.getLogger("taskflow.api")


class Edge:
    """Wraps the app."""

    def __init__(self, app: ASGIApp, settings: ApiSettings, limiter: RateLimiter) -> None:
        self._app = app
        self._settings = settings
        self._limiter = limiter
        self._keys = {hashlib.sha256(key.encode()).digest() for key in settings.keys}
        self._proxies = [ipaddress.ip_network(proxy, strict=False) for proxy in settings.trusted_proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        extra = {"x-request-id": given if is_name(given) else new_id()}
        started = False

        async def send_more(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(extra)
            await send(message)

        try:
            key = self._authorise(scope["path"], headers)
            if self._settings.rate and scope["method"] == "POST":
                await self._limit(key or self._client(scope, headers), extra)
            await self._app(scope, receive, send_more)
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                log.exception("request %s failed", extra["x-request-id"])
            if started:
                raise
            request = Request(scope)
            await problem.response(request)(scope, receive, send_more)

    def _authorise(self, path: str, headers: Headers) -> str | None:
        if not self._keys or path in OPEN:
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).digest()
        # Every key is compared, so that the time says nothing.
        matches = [hmac.compare_digest(digest, known) for known in self._keys]
        if kind.lower() != "bearer" or not any(matches):
            raise Problem(
                401, "unauthorised", "a bearer key of api.keys is needed", headers={"WWW-Authenticate": "Bearer"}
            )
        return f"key:{digest.hex()[:16]}"

    async def _limit(self, who: str, extra: dict[str, str]) -> None:
        rate = self._settings.rate
        assert rate is not None
        verdict = await self._limiter.check(f"{self._settings.namespace}:submit:{who}", rate)
        extra["ratelimit-policy"] = f'"submit";q={rate.limit};w={math.ceil(rate.period)}'
        extra["ratelimit"] = f'"submit";r={verdict.remaining};t={math.ceil(verdict.reset)}'
        if not verdict.allowed:
            raise too_many(verdict)

    def _client(self, scope: Scope, headers: Headers) -> str:
        peer = (scope.get("client") or ("unknown", 0))[0]
        if not self._proxies:
            return f"ip:{peer}"
        hops = [hop.strip() for hop in ",".join(headers.getlist("x-forwarded-for")).split(",") if hop.strip()]
        return f"ip:{rightmost_untrusted([*hops, peer], self._proxies)}"


def rightmost_untrusted(hops: Sequence[str], proxies: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> str:
    """The nearest address that is no proxy of ours: everything left of it is the client's own invention."""
    for hop in reversed(hops):
        try:
            address = ipaddress.ip_address(hop)
        except ValueError:
            return hop[:60]
        if not any(address in proxy for proxy in proxies):
            return hop
    return hops[0]


def too_many(verdict: Verdict) -> Problem:
    """The 429, with an honest Retry-After."""
    seconds = max(1, math.ceil(verdict.retry_after))
    return Problem(
        429, "rate-limited", f"too many requests: try again in {seconds} s", headers={"Retry-After": str(seconds)}
    )
