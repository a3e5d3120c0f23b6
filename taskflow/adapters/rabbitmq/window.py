"""Windows: the port's prefetch counts tickets over all lanes, AMQP's counts messages of one consumer.

A message may hold up to 256 tickets, and nobody knows before it comes. So a lane starts with a small window, and gets a
larger one only once it is full of messages whose size was seen. All windows together stay within the prefetch, save that
each lane may always have one message.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

from taskflow.core.job import Lane, LaneKey
from taskflow.core.limits import TICKETS_SHARED

WEIGHTS: Final = {Lane.HIGH: 8, Lane.NORMAL: 3, Lane.LOW: 1}


def budget(lane: LaneKey, lanes: Set[LaneKey], active: Set[LaneKey], prefetch: int) -> int:
    """A lane's fair part of the prefetch, in tickets: one for each lane, the rest by weight among those in use."""
    spare = max(0, prefetch - len(lanes))
    weights = sum(WEIGHTS[key.lane] for key in active | {lane})
    return 1 + spare * WEIGHTS[lane.lane] // weights


def room(lane: LaneKey, claimed: Mapping[LaneKey, int], prefetch: int) -> int:
    """Tickets that the other lanes' windows leave of the prefetch."""
    return prefetch - sum(tickets for key, tickets in claimed.items() if key != lane)


def first(tickets: int) -> int:
    """Messages that a lane of unknown traffic may have at once, given its part in tickets: two show that more wait, and each may
    hold as many tickets as one can."""
    return max(1, min(tickets, max(2, tickets // TICKETS_SHARED)))


def changed(size: int, unacked: int, target: int, *, full: bool) -> int | None:
    """The size of a new consumer's window, or `None` to keep the present one; 0 is a rest, with no consumer at all.

    Args:
        size: messages that the present consumer may have unacked.
        unacked: messages that are unacked now; they stay so under a new consumer, beside its own.
        target: messages that should be out at once.
        full: whether no more come before one is acked.
    """
    fresh = max(0, target - unacked)
    if size == 0:
        return fresh if fresh * 2 >= target else None
    if target * 5 < size * 4 and fresh < size:
        return fresh
    if full and target > size and fresh >= size:
        return fresh
    return None
