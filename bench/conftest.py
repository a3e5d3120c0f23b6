"""Servers that a benchmark started end with it."""

from __future__ import annotations

from tests import servers


def pytest_sessionfinish() -> None:
    """After the last one."""
    servers.close()
