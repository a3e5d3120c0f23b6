"""Who asks: by bearer key, else by address; a forwarded address counts only if a configured proxy says it."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.types import Scope

from taskflow.ports.limiter import Rate, RateLimiter, Verdict
from taskflow.roles.api.answer import Header
from taskflow.roles.api.problems import Problem, retry_after

FAILED_AUTH: Final = Rate(limit=10, period=60.0, burst=20)
"""Wrong keys that one address may show."""
KEY = "taskflow.key"
CLIENT = "taskflow.client"
HEADERS = "taskflow.headers"
Network = IPv4Network | IPv6Network
_WITH_PORT: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[0-9.]+))(?::[0-9]{1,5})?", re.ASCII)


class Proxies:
    """The proxies whose word counts."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks: tuple[Network, ...] = tuple(ip_network(item, strict=False) for item in trusted)

    def client(self, scope: Scope, forwarded: str) -> str:
        """The address that a request comes from: the right-most that is no trusted proxy.

        Args:
            forwarded: X-Forwarded-For, all of its lines joined by commas.
        """
        peer = str((scope.get("client") or ("local", 0))[0])
        if not self._networks or not forwarded or not self._trusts(peer):
            return bucket(peer)
        for hop in reversed(forwarded.split(",")):
            peer = _host(hop.strip())
            if not self._trusts(peer):
                break
        return bucket(peer)

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def _host(hop: str) -> str:
    """A hop without the port that some proxies add, which is another one with each connection."""
    found = _WITH_PORT.fullmatch(hop)
    return found["six"] or found["four"] if found else hop


@lru_cache(maxsize=10_000)
def bucket(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or ip_network((int(parsed), 64), strict=False))


class Keys:
    """The bearer keys that open the API; none of them kept in clear."""

    def __init__(self, keys: Sequence[str], limiter: RateLimiter) -> None:
        self._hashed = tuple(_hashed(key) for key in keys)
        self._limiter = limiter

    def __bool__(self) -> bool:
        return bool(self._hashed)

    async def check(self, authorization: str | None, client: str) -> str:
        """The name of the key in rate limits.

        Raises:
            Problem: no key or a wrong one (401), or too many wrong ones (429).
        """
        scheme, _, token = (authorization or "").partition(" ")
        shown = hashlib.sha256(token.strip().encode()).hexdigest().encode()
        found = False
        for key in self._hashed:
            # All are compared, so that time does not tell which came near.
            found |= hmac.compare_digest(key, shown)
        if found and scheme.lower() == "bearer":
            return "key:" + shown[:16].decode()
        if authorization is not None:
            verdict = await self._limiter.check(f"auth:{client}", FAILED_AUTH)
            if not verdict.allowed:
                raise Problem(
                    429,
                    "rate-limited",
                    "too many wrong keys came from here",
                    headers=[retry_after(verdict.retry_after)],
                )
        detail = "send 'Authorization: Bearer <key>'" if authorization is None else "this key is not known"
        challenge = b'Bearer realm="taskflow"' + (b"" if authorization is None else b', error="invalid_token"')
        raise Problem(401, "unauthorized", detail, headers=[(b"www-authenticate", challenge)])


def _hashed(key: str) -> bytes:
    """A configured key as it is kept: given so (`sha256:` and the hex digest), or in clear."""
    if key.startswith("sha256:"):
        return key.removeprefix("sha256:").lower().encode()
    return hashlib.sha256(key.encode()).hexdigest().encode()


class Gate:
    """The rate limit of writing requests."""

    def __init__(self, limiter: RateLimiter, rate: Rate | None) -> None:
        self._limiter = limiter
        self._rate = rate
        if rate is not None:
            window = math.ceil(rate.burst * rate.period / rate.limit)
            self._policy: Header = (b"ratelimit-policy", b'"post";q=%d;w=%d' % (rate.burst, window))

    async def enter(self, scope: Scope, cost: int = 1) -> None:
        """Count a request; its answer says what is left.

        Raises:
            Problem: the client has used up its share (429), or asks for more than there can ever be (422).
        """
        rate = self._rate
        if rate is None:
            return
        if cost > rate.burst:
            raise Problem(422, "invalid", f"{cost} jobs at once are more than the rate limit's burst of {rate.burst}")
        verdict = await self._limiter.check(scope.get(KEY) or scope[CLIENT], rate, cost)
        headers = [self._policy, _left(verdict)]
        if verdict.allowed:
            scope.setdefault(HEADERS, []).extend(headers)
            return
        headers.append(retry_after(verdict.retry_after))
        detail = f"more than {rate.limit} requests each {rate.period:g} s; wait {verdict.retry_after:.3f} s"
        raise Problem(429, "rate-limited", detail, headers=headers)


def _left(verdict: Verdict) -> Header:
    return (b"ratelimit", b'"post";r=%d;t=%d' % (verdict.remaining, math.ceil(verdict.reset)))
