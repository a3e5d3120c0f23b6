"""Shared fixtures."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """asyncio on uvloop, as in production."""
    return ("asyncio", {"use_uvloop": True})
