"""Shared fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.adapter_report import AdapterReport
from tests.bug_report import BugReport
from tests.figures import Figures, Say, says
from tests.support import FULL
from tests.throwaway import ThrowawayRabbitMQ, ThrowawayRedis, ThrowawayWeed, own


def pytest_configure(config: pytest.Config) -> None:
    """Count tests by adapter, and keep what they say. The tests of plug-ins ask for it, too."""
    if config.pluginmanager.has_plugin("adapter-report"):
        return
    config.pluginmanager.register(AdapterReport(config), "adapter-report")
    config.pluginmanager.register(BugReport(), "bug-report")
    config.pluginmanager.register(Figures(), "figures")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What has no short form runs where the long forms do, and is not missed elsewhere."""
    if FULL:
        return
    full = [item for item in items if item.get_closest_marker("full")]
    if full:
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_unconfigure() -> None:
    """End the servers that were started for this run."""
    servers.close()


@pytest.fixture
def own_redis() -> Iterator[ThrowawayRedis]:
    """One that a test may stop, fill and flush."""
    with own(ThrowawayRedis()) as server:
        yield server


@pytest.fixture
def own_weed() -> Iterator[ThrowawayWeed]:
    """An S3 that a test may stop."""
    with own(ThrowawayWeed()) as server:
        yield server


@pytest.fixture
def own_rabbitmq() -> Iterator[ThrowawayRabbitMQ]:
    """One that a test may stop, fill and starve."""
    with own(ThrowawayRabbitMQ()) as server:
        yield server


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """asyncio on uvloop, as in production."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Say:
    """Report a figure, also where the test passes."""
    return says(request.node)
