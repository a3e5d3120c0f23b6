"""Servers of the tests' own, which a test may stop, start and fill."""

from tests.throwaway.memcached import ThrowawayMemcached
from tests.throwaway.nats import ThrowawayNats
from tests.throwaway.postgres import ThrowawayPostgres
from tests.throwaway.rabbitmq import ThrowawayRabbitMQ
from tests.throwaway.redis import ThrowawayRedis
from tests.throwaway.server import CannotStart, ThrowawayServer, free_ports, own
from tests.throwaway.weed import ThrowawayWeed

__all__ = [
    "CannotStart",
    "ThrowawayMemcached",
    "ThrowawayNats",
    "ThrowawayPostgres",
    "ThrowawayRabbitMQ",
    "ThrowawayRedis",
    "ThrowawayServer",
    "ThrowawayWeed",
    "free_ports",
    "own",
]
