"""Taskiq on RabbitMQ (aio-pika): durable classic queue, persistent and confirmed messages, acks when the result is saved.

`RESULT` is none, or pg: one committed row for each result. As a script it submits COUNT jobs, 64 at a time.
"""

import asyncio
import os
import sys
from collections.abc import Iterator

from mark import PAYLOAD, mark
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType

broker = AioPikaBroker(
    os.environ["PEER_RABBITMQ"],
    qos=200,
    task_queues=[Queue(name="bench_taskiq", type=QueueType.CLASSIC, durable=True)],
    dead_letter_queue=Queue(name="bench_taskiq_dead", type=QueueType.CLASSIC, durable=True),
)
if os.environ.get("RESULT") == "pg":
    from taskiq_pg.asyncpg import AsyncpgResultBackend

    broker = broker.with_result_backend(AsyncpgResultBackend(os.environ["PEER_POSTGRES"], min_size=4, max_size=20))


@broker.task(task_name="noop")
async def noop(payload: dict) -> int:
    """The task."""
    return mark()


async def fill(left: Iterator[int]) -> None:
    """Submit, one after the other."""
    for _ in left:
        await noop.kiq(PAYLOAD)


async def main(count: int) -> None:
    """Submit so many."""
    await broker.startup()
    left = iter(range(count))
    await asyncio.gather(*(fill(left) for _ in range(64)))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
