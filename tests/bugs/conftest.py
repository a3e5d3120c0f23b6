"""What regressions for known bugs share: the shapes of TaskFlow, the cheapest alone where seconds count, and their report."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from taskflow.adapters.sql import PostgresStore, SqliteStore
from taskflow.adapters.sql.schema import upgrade
from taskflow.ports.store import StateStore
from tests.acceptance.cluster import Cluster
from tests.acceptance.conftest import LEASE, system
from tests.acceptance.system import SHAPES, SHOWN, System, in_shapes
from tests.adapters.postgres_house import emptied, own_schema, url_of
from tests.api.house import House, opened
from tests.bug_report import Report, says
from tests.bugs.behind import behind

__all__ = ["behind", "system"]

ROOT = Path(__file__).parents[2]
TASKS = {"TASKFLOW_TASKS_MODULES": "taskflow.demo,taskflow.testing.tasks,tests.bugs.bug_tasks"}


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Add a row to the table that is printed at the end of the run."""
    return says(request.node)


@pytest.fixture(scope="session", params=in_shapes(SHOWN))
def shape(request: pytest.FixtureRequest) -> str:
    """Each of them in full, one after the other; else the one that is started soonest."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared(shape: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One for all bugs: a start costs seconds. It has the tasks of tests/bugs/bug_tasks.py."""
    with SHAPES[shape](tmp_path_factory.mktemp(shape), **LEASE | TASKS) as made:
        made.configure(PYTHONPATH=str(ROOT))
        yield made


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """The four servers and a schema, and no process yet: for what concerns PostgreSQL or RabbitMQ alone."""
    with Cluster(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def schema() -> Iterator[str]:
    """One on PostgreSQL for all bugs."""
    with own_schema() as name:
        yield name


@pytest.fixture(
    params=[
        pytest.param("sqlite", marks=pytest.mark.adapter("sqlite")),
        pytest.param("postgresql", marks=pytest.mark.adapter("postgresql")),
    ]
)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StateStore]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/taskflow.db"
        upgrade(url)
        async with SqliteStore.from_url(url) as made:
            yield made
        return
    name = request.getfixturevalue("schema")
    await emptied(name)
    async with PostgresStore.from_url(url_of(name)) as opened_there:
        yield opened_there


@pytest.fixture
async def house(store: StateStore, tmp_path: Path) -> AsyncIterator[House]:
    """An API in this process, over each kind of store; what a worker would do is done by hand."""
    async with opened(tmp_path, store=store) as made:
        yield made
