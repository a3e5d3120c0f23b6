"""A queue is deleted, or its leader moves: the broker cancels the consumer, and the client drops it without a word.

Seen in aiormq#116 and #187, aio-pika#334 and #612. Right: the queue is made again and consumed again; jobs whose tickets
went with it run all the same; a queue that somebody made with other arguments is told of and left alone, and disturbs no
other lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from tests.bug_report import Report
from tests.bugs.behind import Behind
from tests.support import FULL, until_sync

pytestmark = pytest.mark.adapter("postgresql", "rabbitmq", "redis")
ROUNDS = 20 if FULL else 2


def at_broker(behind: Behind, work: Callable[[AbstractChannel], Awaitable[Any]]) -> Any:
    """Something done on a channel of the test's own."""

    async def act() -> Any:
        connection = await aiormq.connect(behind.cluster.broker)
        try:
            return await work(await connection.channel())
        finally:
            await connection.close()

    return asyncio.run(act())


def consumed(behind: Behind, queue: str) -> bool:
    """Whether a queue has a consumer, and nothing waits in it.

    It may have more than one: of a queue that is deleted while its consumer is replaced, RabbitMQ 3.10 tells nobody. The
    channel goes on with what it knew of the old queue, acks of the new one's messages are lost in it, and whoever consumed
    them is counted until the channel ends.
    """
    try:
        found = at_broker(behind, lambda channel: channel.queue_declare(queue, passive=True))
    except aiormq.exceptions.ChannelNotFoundEntity:
        return False
    return bool(found.consumer_count) and not found.message_count


def test_queues_are_deleted_under_their_consumers(behind: Behind, report: Report) -> None:
    """With tickets in them, at any moment."""
    cluster, deleted, every = behind.cluster, 0, []
    for round_ in range(ROUNDS):
        for lane, priority in (("normal", 5), ("high", 9)):
            queue = f"{cluster.namespace}.default.{lane}.v1"
            until_sync(lambda queue=queue: consumed(behind, queue) and behind.ready(), 30)  # type: ignore[misc]
            before = cluster.submit("demo.echo", {"round": round_}, count=20, priority=priority)
            at_broker(behind, lambda channel, queue=queue: channel.queue_delete(queue))  # type: ignore[misc]
            deleted += 1
            after = cluster.submit("demo.echo", {"round": round_}, count=20, priority=priority)
            every += [*before, *after]
            until_sync(lambda queue=queue: consumed(behind, queue) and behind.ready(), 30)  # type: ignore[misc]
    until_sync(lambda: behind.succeeded(every), 30)
    report("B27", scale=f"{len(every)} jobs", faults=deleted)


if FULL:

    def test_a_queue_is_made_again_with_other_arguments(behind: Behind, report: Report) -> None:
        """406 on its own channel only; once the stranger's is gone, ours is made."""
        cluster = behind.cluster
        queue = f"{cluster.namespace}.default.low.v1"

        async def taken(channel: AbstractChannel) -> bool:
            await channel.queue_delete(queue)
            try:
                await channel.queue_declare(queue, durable=True)
            except aiormq.exceptions.ChannelPreconditionFailed:
                return False  # ours was made first
            return True

        until_sync(lambda: at_broker(behind, taken), 30)
        until_sync(lambda: f"queue {queue} exists with other arguments" in behind.node.output, 60)
        ids = cluster.submit("demo.echo", count=20, priority=1) + cluster.submit("demo.echo", count=20)
        until_sync(lambda: behind.succeeded(ids), 30)
        assert consumed(behind, f"{cluster.namespace}.default.normal.v1")
        at_broker(behind, lambda channel: channel.queue_delete(queue))
        until_sync(lambda: consumed(behind, queue), 60)
        report("B27", scale="one lane of three", faults=1)
