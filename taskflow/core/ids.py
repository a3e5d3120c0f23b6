"""Time-ordered identifiers (UUIDv7, RFC 9562), so that new rows land at one end of an index."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> str:
    """A new UUIDv7 in canonical text form."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (
        (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    )
    return str(UUID(int=value))


def is_id(text: str) -> bool:
    """Whether `text` is an identifier in canonical text form (any UUID version)."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
