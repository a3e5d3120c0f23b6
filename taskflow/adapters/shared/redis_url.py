"""URLs of Redis. No message shows one, since it may hold a password."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from redis.asyncio.connection import parse_url

FORM: Final = "redis://[user:password@]host[:port][/number]"
TLS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
"""Files in PEM form, and whether the certificate must name the host (yes, unless it says `false`)."""


def options_of(url: str) -> dict[str, Any]:
    """What a connection needs to know, by redis-py's names.

    Raises:
        ValueError: this is no URL of a Redis, or asks for what it cannot.
    """
    try:
        parts = urlsplit(url)
        host, number = parts.hostname, parts.path.strip("/")
        asked = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        found: dict[str, Any] = dict(parse_url(url))
    except ValueError:
        # What the library says quotes parts of the URL.
        raise ValueError(
            f"a Redis URL reads {FORM}; this one cannot be read (encode '/', '@', ':' in passwords)"
        ) from None
    if parts.scheme not in {"redis", "rediss"} or not host or (number and not number.isdecimal()) or parts.fragment:
        raise ValueError(f"a Redis URL reads {FORM}, or rediss:// with TLS; its number is that of a database")
    known = TLS if parts.scheme == "rediss" else ()
    if wrong := sorted(asked.keys() - set(known)):
        hint = f"use some of {', '.join(known)}" if known else "only rediss:// has some"
        raise ValueError(f"a {parts.scheme}:// URL has no option {', '.join(wrong)}: {hint}")
    return found


def place_of(options: dict[str, Any]) -> str:
    """Host, port and database, for people."""
    return f"{options['host']}:{options.get('port', 6379)}/{options.get('db', 0)}"
