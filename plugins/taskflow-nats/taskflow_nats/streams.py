"""The stream of tickets, the stream of what could not be read, and a consumer a lane: made where they are missing."""

from __future__ import annotations

from typing import Final

from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

from taskflow.core.errors import BrokerUnavailable
from taskflow.core.job import LaneKey
from taskflow.ports.broker import LaneStanding
from taskflow_nats.link import Session
from taskflow_nats.names import Names

ACK_WAIT: Final = 30.0
"""Seconds after which a ticket of a worker that died is sent to another. A worker that lives holds none for over 10."""
PULLS: Final = 4_096
"""Workers that may wait at a lane."""
DEAD_LENGTH: Final = 10_000
DEAD_AGE: Final = 7 * 24 * 3_600.0


class Streams:
    """What TaskFlow has in JetStream.

    Args:
        names: of it.
        replicas: servers that keep it.
    """

    def __init__(self, names: Names, replicas: int) -> None:
        self.names = names
        self._replicas = replicas

    async def declare(self, session: Session) -> None:
        """Make the two streams where they are missing.

        Raises:
            BrokerUnavailable: one of that name is somebody else's.
        """
        tickets = StreamConfig(
            name=self.names.stream,
            subjects=[self.names.subjects],
            retention=RetentionPolicy.WORK_QUEUE,
            num_replicas=self._replicas,
        )
        dead = StreamConfig(
            name=self.names.dead,
            subjects=[self.names.dead_subject],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            max_msgs=DEAD_LENGTH,
            max_age=DEAD_AGE,
            num_replicas=self._replicas,
        )
        for wanted in (tickets, dead):
            try:
                found = (await session.js.stream_info(str(wanted.name))).config
            except NotFoundError:
                found = (await session.js.add_stream(wanted)).config
            if (found.subjects, found.retention) != (wanted.subjects, wanted.retention):
                raise BrokerUnavailable(
                    f"stream {wanted.name} is not TaskFlow's (its subjects are {found.subjects}): delete it, or choose another "
                    "namespace"
                )

    async def declare_lane(self, session: Session, lane: LaneKey) -> None:
        """Make a lane's consumer where it is missing, and the streams, if somebody has deleted them."""
        config = ConsumerConfig(
            durable_name=self.names.consumer(lane),
            filter_subject=self.names.subject(lane),
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=-1,
            max_waiting=PULLS,
        )
        try:
            await session.js.add_consumer(self.names.stream, config)
        except NotFoundError:
            await self.declare(session)
            await session.js.add_consumer(self.names.stream, config)

    async def standing(self, session: Session, lane: LaneKey) -> LaneStanding | None:
        """What waits in a lane, and how many workers ask for it; `None` where nobody has used it.

        Raises:
            BrokerUnavailable: NATS does not answer.
        """
        try:
            info = await session.ask(session.js.consumer_info(self.names.stream, self.names.consumer(lane)))
        except NotFoundError:
            return None
        return LaneStanding(info.num_pending or 0, info.num_waiting or 0)

    async def count(self, session: Session, stream: str) -> int:
        """Messages in a stream.

        Raises:
            BrokerUnavailable: NATS does not answer.
        """
        try:
            return (await session.ask(session.js.stream_info(stream))).state.messages
        except NotFoundError:
            return 0
