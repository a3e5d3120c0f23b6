"""The seed's design, straightforwardly: FastAPI, SlowAPI, an SQLAlchemy session a request, aio-pika with confirms, aiocache.

The row is committed and the message confirmed before the answer.
"""

import datetime as dt
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import urlsplit

import aio_pika
from aiocache import Cache
from aiocache.serializers import JsonSerializer
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict
from seed_model import AMQP, QUEUE, Base, Task, engine, get_session
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from sqlalchemy.ext.asyncio import AsyncSession


class TaskIn(BaseModel):
    """What is submitted."""

    type: str
    payload: dict
    priority: int = 0
    idempotency_key: str | None = None
    tags: list[str] = []


class TaskOut(BaseModel):
    """What is answered."""

    model_config = ConfigDict(from_attributes=True)
    id: uuid.UUID
    type: str
    status: str
    priority: int
    payload: dict
    result: dict | None
    error: str | None
    attempts: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


_redis = urlsplit(os.environ["PEER_REDIS"])
cache = Cache(
    Cache.REDIS, endpoint=_redis.hostname, port=_redis.port, db=13, namespace="task", serializer=JsonSerializer()
)
limiter = Limiter(key_func=get_remote_address)


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """Connections."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    app.state.connection = await aio_pika.connect_robust(AMQP)
    app.state.channel = await app.state.connection.channel()
    await app.state.channel.declare_queue(QUEUE, durable=True)
    yield
    await app.state.connection.close()
    await engine.dispose()


app = FastAPI(lifespan=life)
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.post("/jobs", status_code=202, response_model=TaskOut)
@limiter.limit("10000000/minute")
async def create(request: Request, body: TaskIn, session: Annotated[AsyncSession, Depends(get_session)]) -> Task:
    """Submit."""
    task = Task(type=body.type, payload=body.payload, priority=body.priority)
    session.add(task)
    await session.commit()
    await session.refresh(task)
    message = {"task_id": str(task.id), "type": task.type, "payload": task.payload}
    await request.app.state.channel.default_exchange.publish(
        aio_pika.Message(
            json.dumps(message).encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=str(task.id),
        ),
        routing_key=QUEUE,
    )
    return task


@app.get("/jobs/{task_id}", response_model=TaskOut)
@limiter.limit("10000000/minute")
async def get(request: Request, task_id: uuid.UUID, session: Annotated[AsyncSession, Depends(get_session)]) -> object:
    """Look."""
    if cached := await cache.get(str(task_id)):
        return cached
    task = await session.get(Task, task_id)
    if task is None:
        raise HTTPException(404)
    found = TaskOut.model_validate(task).model_dump(mode="json")
    await cache.set(str(task_id), found, ttl=60)
    return found
