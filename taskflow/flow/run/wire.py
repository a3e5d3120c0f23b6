"""Messages between a worker and its child: length, then JSON.

A child says `ready` once, `begin` before each handler and `end` after it; these two, and whatever comes between them, name
their run.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, BinaryIO, Final

import orjson

from taskflow.core.job import Claim

HEAD: Final = 4
LONGEST: Final = 256 << 20
DONE: Final = b"\0taskflow: end of run\n"
"""What a child writes to its standard error after a run: whatever came before it there is the run's."""
_INSTANTS: Final = ("created_at", "started_at")


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes.

    Raises:
        ValueError: it is longer than `LONGEST`, or holds what is no JSON.
    """
    body = orjson.dumps(message)
    if len(body) > LONGEST:
        raise ValueError(f"{len(body):,} bytes are more than a child process may send at once ({LONGEST:,})")
    return len(body).to_bytes(HEAD, "big") + body


def unpack(body: bytes) -> dict[str, Any]:
    """The message of a body."""
    message: dict[str, Any] = orjson.loads(body)
    return message


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message, `None` at the end; blocks."""
    head = stream.read(HEAD)
    if len(head) < HEAD:
        return None
    body = stream.read(int.from_bytes(head, "big"))
    return unpack(body)


def run_of(claim: Claim) -> list[Any]:
    """How messages name a run."""
    return [claim.id, claim.epoch]


def claim_out(claim: Claim) -> dict[str, Any]:
    """A claim as JSON values."""
    return claim._asdict()


def claim_in(values: dict[str, Any]) -> Claim:
    """The claim of JSON values."""
    return Claim(**(values | {name: datetime.fromisoformat(values[name]) for name in _INSTANTS}))
