"""Tickets over NATS JetStream: a work-queue stream a namespace, a durable pull consumer a lane."""

from taskflow_nats.broker import NatsBroker

__all__ = ["NatsBroker"]
