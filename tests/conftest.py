"""Shared fixtures."""

from __future__ import annotations

import pytest

from tests import servers
from tests.adapter_report import AdapterReport


def pytest_configure(config: pytest.Config) -> None:
    """Count tests by adapter."""
    config.pluginmanager.register(AdapterReport(config), "adapter-report")


def pytest_unconfigure() -> None:
    """End the servers that were started for this run."""
    servers.close()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """asyncio on uvloop, as in production."""
    return ("asyncio", {"use_uvloop": True})
