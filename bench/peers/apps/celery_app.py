"""Celery: durable queue, persistent messages, publisher confirms, acks after the work, no results.

As a script it submits COUNT jobs, without confirms, so that filling a queue takes no longer than it must.
"""

import os
import sys

from celery import Celery
from kombu import Queue
from mark import PAYLOAD, mark

QUEUE = "bench_celery"
FILLING = __name__ == "__main__"

app = Celery("peer", broker=os.environ["PEER_RABBITMQ"])
app.conf.update(
    broker_transport_options={"confirm_publish": not FILLING},
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=100,
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE, durable=True)],
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(payload: dict) -> int:
    """The task."""
    return mark()


if FILLING:
    for _ in range(int(sys.argv[1])):
        noop.apply_async((PAYLOAD,))
