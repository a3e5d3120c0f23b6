"""A NATS for the tests of this plug-in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from taskflow_nats import NatsBroker

from taskflow.core.ids import new_id
from tests.throwaway import ThrowawayNats, own


@pytest.fixture(scope="session")
def nats() -> Iterator[ThrowawayNats]:
    """One for all; each test has a namespace of its own."""
    with own(ThrowawayNats()) as server:
        yield server


@pytest.fixture
def own_nats() -> Iterator[ThrowawayNats]:
    """One that a test may stop and kill."""
    with own(ThrowawayNats()) as server:
        yield server


@pytest.fixture
async def nats_broker(nats: ThrowawayNats) -> AsyncIterator[NatsBroker]:
    """An opened one."""
    async with NatsBroker.from_url(nats.url, namespace=f"test-{new_id()}") as opened:
        yield opened
