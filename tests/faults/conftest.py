"""What tests of faults share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is slow has no short form: it runs where the long forms do, and elsewhere it is not missed."""
    if os.environ.get("TASKFLOW_TEST_FULL"):
        return
    slow = [item for item in items if Path(__file__).parent in item.path.parents and item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
