"""Acks of one channel: buffered, sent in one go, and forgotten without a word where the channel is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from aiormq.abc import AbstractChannel

from taskflow.core.job import Ticket

SEND: Final = 10.0
"""Seconds that acks may wait for a place in the driver's buffer."""


class Acks:
    """What was delivered on a channel and not yet settled. Tags mean something on their own channel only.

    Args:
        channel: the channel.
        settled: called after each settled message.
        stuck: called where acks could not be handed over in time.
    """

    def __init__(self, channel: AbstractChannel, settled: Callable[[], None], stuck: Callable[[], None]) -> None:
        self._channel = channel
        self._settled = settled
        self._stuck = stuck
        self._open: dict[int, int] = {}
        self._acked: set[int] = set()
        self._refused: list[tuple[int, bool]] = []
        self._flushing: asyncio.Task[None] | None = None
        self.newest = 0
        """The tag of the last delivery."""
        self.tickets = 0
        """Tickets in unacked messages."""

    @property
    def unacked(self) -> int:
        """Messages that nobody acked yet."""
        return len(self._open) - len(self._acked)

    def until(self, tag: int) -> int:
        """Unacked messages up to a tag."""
        count = 0
        for each in self._open:
            if each > tag:
                break
            count += each not in self._acked
        return count

    def delivered(self, tag: int, tickets: int) -> None:
        """Note a delivery."""
        self._open[tag] = tickets
        self.newest = tag
        self.tickets += tickets

    def ack(self, tag: int) -> None:
        """Settle a message; a second time, or on a dead channel, it means nothing."""
        if tag in self._open and tag not in self._acked:
            self._acked.add(tag)
            self.tickets -= self._open[tag]
            self._soon()
            self._settled()

    def refuse(self, tag: int, *, requeue: bool) -> None:
        """Give a message back, or to the dead queue."""
        self._open.pop(tag, None)
        self._refused.append((tag, requeue))
        self._soon()

    async def flush(self, seconds: float) -> None:
        """Wait until everything settled so far was handed over, at most so long."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing}, timeout=seconds)

    def _soon(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        try:
            # On a dead channel there is nothing left to settle: the broker has taken everything back.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(SEND):
                    while (self._acked or self._refused) and not self._channel.is_closed:
                        await self._send()
                    return
            self._stuck()
        finally:
            self._flushing = None

    async def _send(self) -> None:
        # To the last one: an ack of "all up to here" would take a refused message with it.
        while self._refused:
            tag, requeue = self._refused.pop(0)
            await self._channel.basic_reject(tag, requeue=requeue, wait=False)
        first, upto = 0, 0
        for tag in self._open:
            if tag not in self._acked:
                break
            first, upto = first + 1, tag
        # "Up to here" is true only of an unbroken row of acked messages from the oldest on.
        singles = [tag for tag in self._acked if tag > upto]
        for tag in [tag for tag in self._acked if tag <= upto]:
            del self._open[tag]
            self._acked.discard(tag)
        if first:
            await self._channel.basic_ack(upto, multiple=first > 1, wait=False)
        for tag in singles:
            del self._open[tag]
            self._acked.discard(tag)
            await self._channel.basic_ack(tag, wait=False)


class RabbitDelivery:
    """One message."""

    __slots__ = ("_acks", "_tag", "tickets")

    def __init__(self, tickets: tuple[Ticket, ...], acks: Acks, tag: int) -> None:
        self.tickets = tickets
        self._acks = acks
        self._tag = tag

    async def ack(self) -> None:
        """Settle it."""
        self._acks.ack(self._tag)
