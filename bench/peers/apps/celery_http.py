"""FastAPI before Celery: the message is confirmed before the answer; `send_task` blocks the loop, as it does in the field."""

from celery_app import app as celery
from fastapi import FastAPI
from pydantic import BaseModel


class Job(BaseModel):
    """What is submitted."""

    type: str
    payload: dict
    priority: int = 0
    idempotency_key: str | None = None
    tags: list[str] = []


app = FastAPI()


@app.post("/jobs", status_code=202)
async def create(job: Job) -> dict:
    """Submit."""
    return {"id": celery.send_task(job.type, (job.payload,)).id}
