"""The wire format: a line of the version, then a line a ticket, so that `nats sub` shows what travels.

Every ticket takes the same number of bytes, so that what bounds the bytes of a request bounds its tickets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from taskflow.core.job import LaneKey, RunsIn, Ticket

VERSION: Final = b"1"
MOST: Final = 1_024
"""Tickets in a message that is still believed."""
TICKET_BYTES: Final = len("\n01900000-0000-7000-8000-000000000000 a 1700000000000000")

_CODES: Final = {RunsIn.ASYNC: "a", RunsIn.THREAD: "t", RunsIn.PROCESS: "p"}
_KINDS: Final = {code: kind for kind, code in _CODES.items()}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Unreadable(ValueError):
    """A message that this version cannot read."""


def encode(tickets: Sequence[Ticket]) -> bytes:
    """A message body for tickets of one lane: a line each of id, kind and queued_at (microseconds since 1970)."""
    lines = [
        f"{ticket.job_id} {_CODES[ticket.runs_in]} {(ticket.queued_at - _EPOCH) // _MICROSECOND:016}".encode()
        for ticket in tickets
    ]
    return b"\n".join([VERSION, *lines])


def decode(body: bytes, lane: LaneKey) -> tuple[Ticket, ...]:
    """The tickets of a message that came by a lane.

    Raises:
        Unreadable: it is of another version, or no message of ours.
    """
    version, *lines = body.split(b"\n", MOST + 1)
    if version != VERSION:
        raise Unreadable(f"its version is {version[:8]!r}, and {VERSION!r} is read here")
    if not 1 <= len(lines) <= MOST:
        raise Unreadable(f"it holds {len(lines)} tickets")
    try:
        return tuple(_ticket(*line.decode("ascii").split(" "), lane=lane) for line in lines)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Unreadable(f"a ticket in it is broken: {error}") from None


def _ticket(job_id: str, code: str, queued_at: str, *, lane: LaneKey) -> Ticket:
    return Ticket(str(UUID(job_id)), lane, _KINDS[code], _EPOCH + timedelta(microseconds=int(queued_at)))
