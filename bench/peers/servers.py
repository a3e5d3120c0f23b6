"""Servers for this comparison alone, since some of what is compared takes a whole one for itself."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from bench.systems import Servers
from tests.throwaway import ThrowawayPostgres, ThrowawayRabbitMQ, ThrowawayRedis


class OwnServers(Servers):
    """PostgreSQL and RabbitMQ as durable as their defaults, Redis without persistence; commits have times."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._postgres = ThrowawayPostgres("track_commit_timestamp=on")
            self._rabbitmq, self._redis = ThrowawayRabbitMQ(), ThrowawayRedis()
            for server in (self._postgres, self._rabbitmq, self._redis):
                stack.enter_context(server)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def database(self) -> str:
        return self._postgres.url

    @property
    def broker(self) -> str:
        return self._rabbitmq.url

    @property
    def cache(self) -> str:
        return self._redis.url

    def add_host(self, name: str) -> None:
        """A virtual host of RabbitMQ."""
        self._rabbitmq.ctl("add_vhost", name)
        self._rabbitmq.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")

    def delete_host(self, name: str) -> None:
        """With all its queues."""
        self._rabbitmq.ctl("delete_vhost", name)
