"""The headers of a request that anybody here reads, found in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

READ: Final = frozenset(
    {
        b"authorization", b"content-encoding", b"content-length", b"content-type", b"host", b"idempotency-key",
        b"origin", b"prefer", b"sec-fetch-site", b"x-forwarded-for", b"x-request-id",
    }
)  # fmt: skip
_FOUND: Final = "taskflow.found"


def find(scope: Scope) -> int:
    """Look through all headers once, before anybody asks for one. Their size in bytes."""
    found: dict[bytes, list[bytes]] = {}
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in READ:
            found.setdefault(name, []).append(value)
    scope[_FOUND] = found
    return size


def values(scope: Scope, name: bytes) -> Sequence[bytes]:
    """Every value of a header that is in `READ`, as it came."""
    found: Sequence[bytes] = scope[_FOUND].get(name, ())
    return found


def joined(scope: Scope, name: bytes) -> str | None:
    """All values of a header as one, `None` where it was not sent."""
    found: Sequence[bytes] | None = scope[_FOUND].get(name)
    return None if found is None else b",".join(found).decode("latin-1")
