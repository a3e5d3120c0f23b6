"""What a request and a run cost in this process, without a network, a store or a broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from pytest_benchmark.fixture import BenchmarkFixture

from bench import tasks
from bench.load import post
from bench.micro.conftest import House
from bench.systems import PAYLOAD
from taskflow.core.ids import new_id
from taskflow.core.job import Claim, NewJob, RunsIn, State
from taskflow.core.lifecycle import Ending
from taskflow.flow.effects import RunEffects
from taskflow.flow.progress import ProgressWriter
from taskflow.flow.run import Runners
from taskflow.flow.submit import Submitter
from taskflow.ports.store import Inserted
from taskflow.roles.api import create_app
from taskflow.tasks.registry import Registry
from taskflow.wiring.connection import Connection, Shared
from tests.api.house import opened

TOGETHER: Final = 100
REQUEST: Final = post("/api/v1/jobs", json.dumps({"task": "t.any", "payload": PAYLOAD}).encode())
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
TEXT: Final = json.dumps(PAYLOAD)


class Socket:
    """Tells of a connection."""

    family = 2

    def getsockopt(self, *_: Any) -> bytes:
        return b"\1"

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", 8_080)


class Count:
    """Ends when so many have come."""

    def __init__(self) -> None:
        self._left = 0
        self._over = asyncio.Event()

    def expect(self, count: int) -> None:
        """From now on."""
        self._left, self._over = count, asyncio.Event()

    def one(self) -> None:
        """Of them."""
        self._left -= 1
        if not self._left:
            self._over.set()

    async def all(self) -> None:
        """Wait for the last."""
        await self._over.wait()


class Wire(asyncio.Transport):
    """Takes answers."""

    def __init__(self, answers: Count) -> None:
        super().__init__()
        self._answers = answers

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return Socket() if name == "socket" else default

    def write(self, data: Any) -> None:
        if data.startswith(b"HTTP/1.1 202"):
            self._answers.one()

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class NoTable:
    """Stores nothing, at once."""

    async def insert(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        return [Inserted(job.id, True, State.QUEUED, NOW, None) for job in jobs]


class NoTickets:
    """Publishes nothing."""

    def offer(self, tickets: Sequence[Any]) -> None: ...


def asking(app: Any) -> Callable[[], Any]:
    """What sends a request on each of a hundred connections, and returns when all are answered."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, date_header=False, http=Connection
    )
    config.load()
    state, answers = Shared(), Count()
    connections = [Connection(config, state, {}) for _ in range(TOGETHER)]
    for connection in connections:
        connection.connection_made(Wire(answers))

    async def ask() -> None:
        answers.expect(TOGETHER)
        for connection in connections:
            connection.data_received(REQUEST)
        await answers.all()

    return ask


@pytest.fixture
def app(house: House, tmp_path: Path) -> Iterator[Any]:
    """The API, on a store that takes no time."""
    context = opened(tmp_path)
    made = house.run(context.__aenter__())
    yield create_app(replace(made.deps, submitter=Submitter(NoTable(), NoTickets())))  # type: ignore[arg-type]
    house.run(context.__aexit__(None, None, None))


async def nothing(_scope: Any, receive: Any, send: Any) -> None:
    """An app that reads a request, and says always the same."""
    await receive()
    await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"800")]})
    await send({"type": "http.response.body", "body": b"x" * 800})


@pytest.mark.benchmark(group="request (100)")
def test_request(benchmark: BenchmarkFixture, house: House, app: Any) -> None:
    """A hundred at once, from the bytes of each to those of its answer."""
    benchmark(house.calling(made_on(house, lambda: asking(app))))


@pytest.mark.benchmark(group="request (100)")
def test_raw_request(benchmark: BenchmarkFixture, house: House) -> None:
    """By uvicorn, with an app that does nothing."""
    benchmark(house.calling(made_on(house, lambda: asking(nothing))))


def made_on(house: House, make: Callable[[], Any]) -> Any:
    """What must be made while the loop runs."""

    async def made() -> Any:
        return make()

    return house.run(made())


class Runs:
    """Starts a hundred runs, and knows when the last has ended."""

    def __init__(self) -> None:
        self._ended = Count()
        effects = RunEffects(None, ProgressWriter(None), None, None, "bench")  # type: ignore[arg-type]
        slots = dict.fromkeys(RunsIn, TOGETHER)
        self.runners = Runners(Registry([tasks.noop]), slots, self._done, effects=effects, lease=60, fatal=print)

    async def all(self) -> None:
        """One round."""
        self._ended.expect(TOGETHER)
        for _ in range(TOGETHER):
            claim = Claim(
                *(new_id(), "default", "bench.noop", "default", 5, TEXT, 1, "w", 1, 1, 3, 60.0, 1, 0, 0, 0, "[]", "{}"),
                *(NOW, NOW),
            )
            self.runners.start(claim)
        await self._ended.all()

    def _done(self, _claim: Claim, _ending: Ending) -> None:
        self._ended.one()


@pytest.mark.benchmark(group="run (100)")
def test_run(benchmark: BenchmarkFixture, house: House) -> None:
    """A hundred claims to their endings, by the handlers' loop."""
    runs: Runs = made_on(house, Runs)
    house.run(runs.runners.__aenter__())
    benchmark(house.calling(runs.all))
    house.run(runs.runners.__aexit__(None, None, None))


@pytest.mark.benchmark(group="run (100)")
def test_raw_run(benchmark: BenchmarkFixture, house: House) -> None:
    """A hundred tasks that return at once."""

    async def work() -> None:
        await asyncio.gather(*(asyncio.create_task(tasks.noop.function(**PAYLOAD)) for _ in range(TOGETHER)))

    benchmark(house.calling(work))
