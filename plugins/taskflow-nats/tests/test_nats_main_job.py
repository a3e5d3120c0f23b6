"""TaskFlow on NATS: the tests of its main job, unchanged. The swap is one URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.conftest import LEASE, system  # noqa: F401 - a fixture
from tests.acceptance.system import FOUR, PROCESSES, System, on_servers
from tests.acceptance.test_main_job import *  # noqa: F403
from tests.support import FULL
from tests.throwaway import ThrowawayNats

pytestmark = pytest.mark.adapter("nats", *(name for name in FOUR if name != "rabbitmq"))


@pytest.fixture(scope="module", params=PROCESSES if FULL else ["apart"])
def shape(request: pytest.FixtureRequest) -> str:
    """On servers: only there is something to carry tickets to."""
    return str(request.param)


@pytest.fixture(scope="module")
def shared(shape: str, nats: ThrowawayNats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for many tests."""
    settings = {"TASKFLOW_BROKER_URL": nats.url, **LEASE}
    with on_servers(PROCESSES[shape], tmp_path_factory.mktemp(shape), **settings) as made:
        yield made


@pytest.fixture
def fresh(shape: str, nats: ThrowawayNats, tmp_path: Path) -> Iterator[Callable[..., System]]:
    """Makes one of the test's own."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            on_servers(PROCESSES[shape], tmp_path, TASKFLOW_BROKER_URL=nats.url, **LEASE | settings)
        )
