"""Questions, on a channel of their own: a passive declare of a missing queue closes the channel it was asked on."""

from __future__ import annotations

import asyncio
from typing import Final

from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity

from taskflow.adapters.rabbitmq.calls import BrokerLost, BrokerSilent, call
from taskflow.adapters.rabbitmq.link import Link
from taskflow.ports.broker import LaneStanding

ANSWER: Final = 3.0
"""Seconds."""


class Probe:
    """Asks over one link; one question at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._asking = asyncio.Lock()
        self._channel: AbstractChannel | None = None
        self._connection: AbstractConnection | None = None

    async def queue(self, name: str) -> LaneStanding | None:
        """How a queue stands, `None` where there is none.

        Raises:
            BrokerUnavailable: no answer.
        """
        async with self._asking:
            connection = await self._link.within(ANSWER)
            try:
                channel = await self._on(connection)
                found = await call(channel.queue_declare(name, passive=True, timeout=ANSWER), ANSWER)
            except BrokerSilent:
                self._link.suspect(connection)
                raise
            except BrokerLost as error:
                if isinstance(error.__cause__, ChannelNotFoundEntity):
                    return None
                raise
        return LaneStanding(found.message_count or 0, found.consumer_count or 0)

    async def ping(self) -> None:
        """Prove that the broker answers, by a call that changes nothing.

        Raises:
            BrokerUnavailable: it does not.
        """
        async with self._asking:
            connection = await self._link.within(ANSWER)
            try:
                channel = await self._on(connection)
                await call(channel.basic_qos(prefetch_count=0, timeout=ANSWER), ANSWER)
            except BrokerSilent:
                self._link.suspect(connection)
                raise

    async def _on(self, connection: AbstractConnection) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed or connection is not self._connection:
            self._channel = await call(connection.channel(publisher_confirms=False, timeout=ANSWER), ANSWER)
            self._connection = connection
        return self._channel
