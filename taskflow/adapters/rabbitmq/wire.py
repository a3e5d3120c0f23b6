"""The wire format: one version byte, then 25 bytes a ticket. The lane is the queue's, so it is not repeated."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from taskflow.core.job import LaneKey, RunsIn, Ticket

VERSION: Final = 1
MOST: Final = 1_024
"""Tickets in a message that is still believed."""

_TICKET: Final = struct.Struct(">16sBq")
_KINDS: Final = tuple(RunsIn)
_CODES: Final = {kind: code for code, kind in enumerate(_KINDS)}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Unreadable(ValueError):
    """A message that this version cannot read."""


def encode(tickets: Sequence[Ticket]) -> bytes:
    """A message body for tickets of one lane: id (16 bytes), kind (1), queued_at (8, microseconds since 1970)."""
    return bytes([VERSION]) + b"".join(
        _TICKET.pack(
            bytes.fromhex(ticket.job_id.replace("-", "")),
            _CODES[ticket.runs_in],
            (ticket.queued_at - _EPOCH) // _MICROSECOND,
        )
        for ticket in tickets
    )


def decode(body: bytes, lane: LaneKey) -> tuple[Ticket, ...]:
    """The tickets of a message that came by a lane.

    Raises:
        Unreadable: it is of another version, or no message of ours.
    """
    if not body or body[0] != VERSION:
        raise Unreadable(f"its version is {body[0] if body else 'missing'}, and {VERSION} is read here")
    count, rest = divmod(len(body) - 1, _TICKET.size)
    if rest or not 1 <= count <= MOST:
        raise Unreadable(f"its length is {len(body)} bytes")
    try:
        return tuple(
            Ticket(_text(raw), lane, _KINDS[code], _EPOCH + timedelta(microseconds=at))
            for raw, code, at in _TICKET.iter_unpack(memoryview(body)[1:])
        )
    except (IndexError, OverflowError) as error:
        raise Unreadable(f"a ticket in it is broken: {error}") from None


def _text(raw: bytes) -> str:
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
