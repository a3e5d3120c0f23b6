"""Dramatiq on RabbitMQ: durable queue, persistent messages, acks after the work, no results.

As a script it submits COUNT jobs, without confirms, so that filling a queue takes no longer than it must.
"""

import os
import sys

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from mark import PAYLOAD, mark

broker = RabbitmqBroker(url=f"{os.environ['PEER_RABBITMQ']}?heartbeat=600", confirm_delivery=__name__ != "__main__")
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="bench_dramatiq")
def noop(payload: dict) -> None:
    """The task."""
    mark()


if __name__ == "__main__":
    noop.broker = broker
    for _ in range(int(sys.argv[1])):
        # A worker imports this module by its name: the actor must be found under that.
        broker.enqueue(noop.message(PAYLOAD))
    broker.close()
