"""FastAPI before Taskiq: the message is confirmed before the answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel
from taskiq_app import broker, noop


class Job(BaseModel):
    """What is submitted."""

    type: str
    payload: dict
    priority: int = 0
    idempotency_key: str | None = None
    tags: list[str] = []


@asynccontextmanager
async def life(_: FastAPI) -> AsyncIterator[None]:
    """Connections."""
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=life)


@app.post("/jobs", status_code=202)
async def create(job: Job) -> dict:
    """Submit."""
    return {"id": (await noop.kiq(job.payload)).task_id}
