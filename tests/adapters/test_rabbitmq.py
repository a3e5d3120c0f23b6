"""RabbitMQ on the real server, under names of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskflow.adapters.rabbitmq import RabbitBroker
from taskflow.ports.broker import Broker
from taskflow.testing.broker import BrokerSuite
from tests.rabbit import House


class TestRabbitBroker(BrokerSuite):
    """The contract."""

    @pytest.fixture
    async def broker(self, rabbit: House) -> AsyncIterator[Broker]:
        """An opened one."""
        async with RabbitBroker.from_url(rabbit.url, namespace=rabbit.namespace) as opened:
            yield opened
