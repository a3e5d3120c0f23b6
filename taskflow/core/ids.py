"""Time-ordered identifiers (UUIDv7, RFC 9562), so that new rows land at one end of an index."""

from __future__ import annotations

import os
import time
from random import Random
from typing import Final
from uuid import UUID

# Seeded by the system: an identifier has to be unique, not secret, and asking the system for each costs more than the rest.
_random: Final = Random()
_LOW: Final = (1 << 62) - 1
os.register_at_fork(after_in_child=_random.seed)


def new_id() -> str:
    """A new UUIDv7 in canonical text form."""
    random = _random.getrandbits(74)
    moment = time.time_ns() // 1_000_000
    value = moment << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & _LOW
    digits = value.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def request_id() -> str:
    """A new name of a request: 24 hexadecimal digits."""
    return f"{_random.getrandbits(96):024x}"


def is_id(text: str) -> bool:
    """Whether `text` is an identifier in canonical text form (any UUID version)."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
