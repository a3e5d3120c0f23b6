"""URLs: what is wrong with one is said before anything is opened."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

HEARTBEAT: Final = 10
"""Seconds. A silent link is dropped by the driver after three and a bit; a watchdog usually sees it before."""
OPTIONS: Final = frozenset(
    {"heartbeat", "timeout", "name", "auth", "cafile", "capath", "cadata", "certfile", "keyfile", "no_verify_ssl"}
)
_EXAMPLE: Final = "use amqp://user:password@host:5672/vhost, with reserved characters percent-encoded"


def check(url: str) -> None:
    """Look at a URL.

    Raises:
        ValueError: it is no URL of a RabbitMQ; the message says what to write.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is no RabbitMQ's URL ({error}): {_EXAMPLE}") from None
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname or port == 0:
        raise ValueError(f"{url!r} is no RabbitMQ's URL: {_EXAMPLE}")
    if parts.fragment or "/" in parts.path[1:]:
        raise ValueError(f"{url!r} names no virtual host that can be read (a / in it is %2F): {_EXAMPLE}")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(given.keys() - OPTIONS)
    if unknown:
        raise ValueError(f"{url!r}: unknown option {unknown[0]!r}; known are {', '.join(sorted(OPTIONS))}")
    beat = given.get("heartbeat", str(HEARTBEAT))
    if not beat.isdecimal() or not 1 <= int(beat) <= 600:
        raise ValueError(f"{url!r}: heartbeat={beat} is no whole number of seconds from 1 to 600")


def named(url: str, purpose: str) -> str:
    """The URL of a connection for one purpose; its name and heartbeat stand in it unless the user chose others."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query.setdefault("heartbeat", str(HEARTBEAT))
    query["name"] = f"{query.get('name', 'taskflow')} {purpose}"
    return urlunsplit(parts._replace(query=urlencode(query)))
