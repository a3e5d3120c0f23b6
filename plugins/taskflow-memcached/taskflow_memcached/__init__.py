"""Documents of finished jobs in memcached."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import emcache

from taskflow.core.errors import TaskFlowError
from taskflow.core.outage import Outage

__all__ = ["MemcachedCache"]

PORT: Final = 11_211
CALL: Final = 1.0
"""Seconds that memcached may take; a cache that is slower is none."""
CONNECTIONS: Final = 8
IDLE: Final = 60.0
"""Seconds that a connection which nobody uses is kept."""
REST: Final = 5.0
"""Seconds after a failure in which nobody asks: each caller would wait for it."""
KEY_BYTES: Final = 250
TTL: Final = 30 * 86_400
"""Seconds; a longer time would be read as a date."""

T = TypeVar("T")
log = logging.getLogger("taskflow")
# It warns of each connection that it loses; an outage is told once, by us.
_driver_log = logging.getLogger("emcache")
if _driver_log.level == logging.NOTSET:
    _driver_log.setLevel(logging.CRITICAL)


class MemcachedAway(TaskFlowError):
    """memcached does not answer."""


class MemcachedCache:
    """Values under `{namespace}:{key}`. memcached drops what is old, and keeps no value over 1 MiB unless it is told to.

    Args:
        host: name or address.
        port: of it.
        namespace: prefix of every key.
    """

    PORT_VERSION: Final = 1

    def __init__(self, host: str, port: int, namespace: str) -> None:
        self._address = emcache.MemcachedHostAddress(host, port)
        self._prefix = f"{namespace}:"
        self._outage = Outage("memcached")
        self._rests_until = 0.0

    @classmethod
    def from_url(cls, url: str, *, namespace: str = "taskflow", **_: Any) -> Self:
        """The cache of a `memcached://host:11211` URL.

        Raises:
            ValueError: the URL cannot be used.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or PORT
        except ValueError as error:
            raise ValueError(f"{url!r} is no memcached URL ({error}): use memcached://host:{PORT}") from None
        if not parts.hostname or parts.username or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is no memcached URL: use memcached://host:{PORT}, and nothing else")
        return cls(parts.hostname, port, namespace)

    async def __aenter__(self) -> Self:
        self._client = await emcache.create_client(
            [self._address],
            timeout=CALL,
            connection_timeout=CALL,
            max_connections=CONNECTIONS,
            min_connections=0,
            purge_unused_connections_after=IDLE,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def get(self, key: str) -> bytes | None:
        """The value, or `None`, also where memcached does not say."""
        item = await self._try(lambda: self._client.get(self._key(key)))
        return item.value if item else None

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep a value, if memcached takes it; its times are whole seconds."""
        if ttl <= 0:
            await self.delete(key)
            return
        seconds = min(TTL, math.ceil(ttl))
        await self._try(lambda: self._client.set(self._key(key), value, exptime=seconds))

    async def delete(self, *keys: str) -> None:
        """Forget the keys. Those of a memcached that is away it keeps, until their time."""
        for key in keys:
            await self._try(lambda key=key: self._client.delete(self._key(key)))  # type: ignore[misc]

    async def ping(self) -> None:
        """Raise `TaskFlowError` if memcached does not answer."""
        try:
            await self._client.version(self._address)
        except Exception as error:
            raise MemcachedAway(f"memcached does not answer: {str(error) or type(error).__name__}") from error
        self._well()

    async def _try(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """The answer, or `None` where there is none: a cache may always have nothing."""
        if time.monotonic() < self._rests_until:
            return None
        try:
            answer = await work()
        except emcache.CommandError as error:
            # It answers: a key is not there to be deleted, or a value is too large.
            log.debug("memcached refused: %s", error)
            return None
        except Exception as error:
            self._outage.lost(error)
            self._rests_until = time.monotonic() + REST
            return None
        self._well()
        return answer

    def _well(self) -> None:
        self._outage.back()
        self._rests_until = 0.0

    def _key(self, key: str) -> bytes:
        """A key as memcached takes it: short, and without blanks."""
        whole = (self._prefix + key).encode()
        if len(whole) <= KEY_BYTES and all(0x21 <= byte < 0x7F for byte in whole):
            return whole
        return self._prefix.encode()[:100] + hashlib.sha256(whole).hexdigest().encode()
