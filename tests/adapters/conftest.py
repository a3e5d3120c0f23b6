"""Fixtures of tests with real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskflow.adapters.rabbitmq.topology import Topology
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
