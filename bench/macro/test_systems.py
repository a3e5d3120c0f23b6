"""Each system in fresh processes, in rounds, so that what a machine does meanwhile meets all of them alike.

Figures are the `extra_info` of a test: how long it takes means nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.measures import by_batch, end_to_end, measure, steady
from bench.raw_sqlite import NAME, raw_sqlite
from bench.systems import Embedded, Four, Reference, Servers, System

JOBS: Final = int(os.environ.get("BENCH_JOBS", "20000"))
ROUNDS: Final = int(os.environ.get("BENCH_ROUNDS", "3"))
Figures = dict[str, float]


def looked_at(kind: type[System], look: Callable[[System, int], Figures], directory: Path, jobs: int) -> Figures:
    """A system of a kind, for as long as a look at it takes."""
    with kind(directory, Servers()) as system:
        return look(system, jobs)


WAYS: Final[list[tuple[str, Callable[[Path, int], Figures]]]] = [
    (NAME, raw_sqlite),
    *(
        (kind.name, partial(looked_at, kind, look))
        for kind in (Reference, Four, Embedded)
        for look in (measure, end_to_end, by_batch, steady)
    ),
]


@pytest.mark.parametrize(("system", "way"), WAYS)
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_system(
    benchmark: BenchmarkFixture, system: str, way: Callable[[Path, int], Figures], round_: int, tmp_path: Path
) -> None:
    """Jobs a second, and milliseconds at a steady rate."""
    figures = benchmark.pedantic(way, (tmp_path, JOBS), rounds=1)
    benchmark.extra_info.update(system=system, figures=figures)
