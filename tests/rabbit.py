"""A namespace on the real RabbitMQ, and what a test does to it behind TaskFlow's back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity

from taskflow.adapters.rabbitmq.topology import Topology
from taskflow.core.ids import new_id
from taskflow.core.job import LaneKey
from tests import servers


class House:
    """Queues of one test; those it was told of are deleted at the end."""

    def __init__(self, url: str = servers.AMQP) -> None:
        self.url = url
        self.namespace = f"test-{new_id()}"
        self.topology = Topology(self.namespace)

    @asynccontextmanager
    async def channel(self, *, confirms: bool = True) -> AsyncIterator[AbstractChannel]:
        """A channel on a connection of the test's own."""
        async with asyncio.timeout(10):
            connection = await aiormq.connect(self.url)
            try:
                yield await connection.channel(publisher_confirms=confirms)
            finally:
                await connection.close()

    async def delete(self, *queues: str) -> None:
        """Delete queues, as an operator might."""
        async with self.channel() as channel:
            for queue in queues:
                await channel.queue_delete(queue)

    async def declare(self, queue: str, arguments: Mapping[str, Any]) -> None:
        """Create a queue of the test's own design."""
        async with self.channel() as channel:
            await channel.queue_declare(queue, durable=True, arguments=dict(arguments))

    async def send(self, queue: str, body: bytes) -> None:
        """Publish any bytes."""
        async with self.channel() as channel:
            await channel.basic_publish(body, routing_key=queue, mandatory=True)

    async def ready(self, queue: str) -> int | None:
        """Messages that wait in a queue, `None` where there is none."""
        async with self.channel() as channel:
            try:
                found = await channel.queue_declare(queue, passive=True)
            except ChannelNotFoundEntity:
                return None
            return found.message_count

    async def take(self, queue: str) -> bytes | None:
        """The body of the next message, which is gone then."""
        async with self.channel() as channel:
            got = await channel.basic_get(queue, no_ack=True)
            return got.body or None

    def queue(self, lane: LaneKey) -> str:
        """A lane's queue."""
        return self.topology.queue(lane)
