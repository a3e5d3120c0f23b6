"""The seed's consumer: row running (commit), handler, row succeeded with its result (commit), cache, ack; prefetch 10."""

import asyncio
import datetime as dt
import json
import os
import signal
import uuid
from urllib.parse import urlsplit

import aio_pika
from aiocache import Cache
from mark import mark
from seed_model import AMQP, QUEUE, Session, Task, engine

PREFETCH = 10

_redis = urlsplit(os.environ["PEER_REDIS"])
cache = Cache(Cache.REDIS, endpoint=_redis.hostname, port=_redis.port, db=13, namespace="task")


async def handle(payload: dict) -> dict:
    """The task."""
    return {"ok": True}


async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
    """One job."""
    async with message.process(requeue=True):
        told = json.loads(message.body)
        async with Session() as session:
            task = await session.get(Task, uuid.UUID(told["task_id"]))
            task.status = "running"
            task.started_at = dt.datetime.now(dt.UTC)
            task.attempts += 1
            await session.commit()
            task.result = await handle(told["payload"])
            task.status = "succeeded"
            task.finished_at = dt.datetime.now(dt.UTC)
            await session.commit()
        await cache.delete(told["task_id"])
        mark()


async def main() -> None:
    """Until told to end."""
    connection = await aio_pika.connect_robust(AMQP)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.declare_queue(QUEUE, durable=True)
    await queue.consume(on_message)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()
    await connection.close()
    await engine.dispose()


asyncio.run(main())
