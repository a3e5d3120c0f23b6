"""Queues, and the arguments they are declared with. Only arguments that RabbitMQ takes from 3.10 to 4.x."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from aiormq.abc import AbstractChannel

from taskflow.adapters.rabbitmq.calls import RPC, ForeignQueue, call
from taskflow.core.job import LaneKey

VERSION: Final = "v1"
"""Part of each name: other arguments need other queues."""
DELIVERY_LIMIT: Final = 20
"""Redeliveries before the broker gives a message up. A worker that ends costs one; the draw finds the rows."""
DEAD_LENGTH: Final = 10_000
DEAD_TTL: Final = 7 * 24 * 3_600 * 1_000
"""Milliseconds."""
TRY_AGAIN: Final = 30.0
"""Seconds before a queue that is not ours is looked at again."""

log = logging.getLogger("taskflow.broker")


class Topology:
    """The queues of a namespace.

    A lane's queue: durable, `x-queue-type: quorum`, `x-delivery-limit: 20`, dead-lettered to the shared dead queue.
    The dead queue: durable, `x-queue-type: classic` (so that looking at a message and giving it back is not counted),
    `x-max-length: 10000`, `x-message-ttl`: 7 days. It keeps what could not be read or was given up on, for looking only.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.dead = f"{namespace}.dead.{VERSION}"
        self._foreign: dict[str, float] = {}
        self._declaring = asyncio.Lock()

    def queue(self, lane: LaneKey) -> str:
        """The name of a lane's queue."""
        return f"{self.namespace}.{lane.queue}.{lane.lane.name.lower()}.{VERSION}"

    def is_foreign(self, queue: str) -> bool:
        """Whether a queue of that name was seen that is not ours, less than 30 s ago."""
        return time.monotonic() - self._foreign.get(queue, float("-inf")) < TRY_AGAIN

    async def declare_lane(self, channel: AbstractChannel, lane: LaneKey) -> None:
        """Create a lane's queue where it is missing.

        Raises:
            ForeignQueue: it exists with other arguments; the channel is closed by that.
            BrokerLost: the link broke.
        """
        await self._declare(channel, self.queue(lane), self._lane_arguments())

    async def declare_dead(self, channel: AbstractChannel) -> None:
        """Create the dead queue where it is missing (errors: see `declare_lane`)."""
        arguments = {"x-queue-type": "classic", "x-max-length": DEAD_LENGTH, "x-message-ttl": DEAD_TTL}
        await self._declare(channel, self.dead, arguments)

    def _lane_arguments(self) -> Mapping[str, Any]:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead,
        }

    async def _declare(self, channel: AbstractChannel, queue: str, arguments: Mapping[str, Any]) -> None:
        try:
            # One at a time: who declares a queue that another is just making is told yes before it can take a message.
            async with self._declaring:
                await call(channel.queue_declare(queue, durable=True, arguments=dict(arguments), timeout=RPC))
        except ForeignQueue as error:
            if queue not in self._foreign:
                log.error(  # noqa: TRY400 - the reason is all that helps
                    "queue %s exists with other arguments than TaskFlow's (%s). It is left alone, and its jobs are drawn "
                    "from the table, more slowly; delete it, or choose another namespace",
                    queue,
                    error,
                )
            self._foreign[queue] = time.monotonic()
            raise
        if self._foreign.pop(queue, None) is not None:
            log.warning("queue %s is TaskFlow's own again", queue)
