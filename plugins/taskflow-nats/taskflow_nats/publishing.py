"""Publishing: a message for each few tickets of a lane, all on their way at once, each confirmed by the stream."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from nats.js.api import PubAck
from nats.js.errors import NoStreamResponseError

from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import LaneKey, Ticket
from taskflow_nats.link import Link, Session, reason_of
from taskflow_nats.streams import Streams
from taskflow_nats.wire import encode

DEADLINE: Final = 5.0
"""Seconds that a publish may take, with its confirms."""
IN_FLIGHT: Final = 2_000
"""Messages that wait for their confirms at once."""


class Publishing:
    """Publishes with confirms."""

    def __init__(self, link: Link, streams: Streams) -> None:
        self._link = link
        self._streams = streams

    async def publish(self, tickets: Sequence[Ticket], share: int) -> None:
        """Publish, FIFO per lane.

        Raises:
            BrokerUnavailable: not confirmed within 5 s.
        """
        messages = list(self._messages(tickets, share))
        session: Session | None = None
        try:
            async with asyncio.timeout(DEADLINE):
                session = await self._link.connected()
                try:
                    await self._send(session, messages)
                except NoStreamResponseError:
                    await self._streams.declare(session)
                    await self._send(session, messages)
        except TimeoutError:
            if session is None:
                raise BrokerUnavailable("NATS cannot be reached") from None
            session.suspect()
            raise BrokerUnavailable(f"NATS did not confirm within {DEADLINE:g} s") from None
        except Exception as error:
            if session is not None:
                session.suspect()
            raise BrokerUnavailable(f"NATS took no tickets: {reason_of(error)}") from error

    async def _send(self, session: Session, messages: Sequence[tuple[str, bytes]]) -> None:
        for start in range(0, len(messages), IN_FLIGHT):
            confirms: list[asyncio.Future[PubAck]] = []
            try:
                for subject, body in messages[start : start + IN_FLIGHT]:
                    confirms.append(await session.js.publish_async(subject, body))
                await asyncio.gather(*confirms)
            finally:
                for confirm in confirms:
                    confirm.cancel()

    def _messages(self, tickets: Sequence[Ticket], share: int) -> Iterator[tuple[str, bytes]]:
        by_lane: defaultdict[LaneKey, list[Ticket]] = defaultdict(list)
        for ticket in tickets:
            by_lane[ticket.lane].append(ticket)
        for lane, mine in by_lane.items():
            subject = self._streams.names.subject(lane)
            for start in range(0, len(mine), share):
                yield subject, encode(mine[start : start + share])
