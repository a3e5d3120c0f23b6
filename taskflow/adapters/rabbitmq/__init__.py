"""Tickets over RabbitMQ, 3.10 to 4.x, by aiormq: quorum queues, one a lane."""

from taskflow.adapters.rabbitmq.broker import RabbitBroker

__all__ = ["RabbitBroker"]
