"""What tests of adapters share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from taskflow.adapters.rabbitmq.topology import Topology
from taskflow.core.ids import new_id
from tests import servers
from tests.rabbit import House


@pytest.fixture
async def rabbit(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """A namespace on RabbitMQ; every queue that TaskFlow may have made in it is deleted at the end."""
    house = House()
    made: set[str] = {house.topology.dead}
    name_of = Topology.queue

    def noted(self: Topology, lane: object) -> str:
        name = name_of(self, lane)  # type: ignore[arg-type]
        made.add(name)
        return name

    monkeypatch.setattr(Topology, "queue", noted)
    yield house
    await house.delete(*made)


@pytest.fixture
def redis_url() -> str:
    """A Redis that others use too."""
    return servers.url_of("redis")


@pytest.fixture
async def redis_namespace(redis_url: str) -> AsyncIterator[str]:
    """A namespace there of the test's own; what lies in it is dropped."""
    name = f"test-{new_id()}"
    yield name
    async with Redis.from_url(redis_url) as client:
        async for key in client.scan_iter(f"{name}:*", count=1_000):
            await client.unlink(key)
