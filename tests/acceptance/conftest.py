"""The shapes of TaskFlow that a test of its behaviour runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.system import SHAPES, System, in_shapes

LEASE = {"TASKFLOW_CONSUMER_LEASE": "4"}


@pytest.fixture(scope="module", params=in_shapes(SHAPES))
def shape(request: pytest.FixtureRequest) -> str:
    """Each of them, one after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared(shape: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for many tests: a start costs seconds."""
    with SHAPES[shape](tmp_path_factory.mktemp(shape), **LEASE) as made:
        yield made


@pytest.fixture
def system(shared: System) -> System:
    """One that runs, and may be killed; tests leave no job of theirs behind."""
    return shared.start()


@pytest.fixture
def fresh(shape: str, tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Makes one of the test's own, not started, for settings of its own or an empty table."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(SHAPES[shape](tmp_path, **LEASE | settings))
