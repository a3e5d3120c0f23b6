"""What others do with the same jobs, beside TaskFlow: `python -m bench.peers [--rounds N] [--only NAME] [--part NAME]`.

Each system runs in fresh processes on the same PostgreSQL, RabbitMQ and Redis, one after the other, in rounds: the medians
stand beside each other. Tasks do nothing, and payloads have 300 bytes.

http: single submits from 256 connections, and the time from the first request to the last finished job. drain: a worker
starts on a full queue; jobs between the 15th and 98th percentile of their ends over the time between those. A peer's job
ends when its task has run; TaskFlow's, the reference's and that of the seed's design when its result is committed.
latency: 100 requests a second, each on time, from the request to the commit that ends its job.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.measures import end_to_end, rate_of, steady, until_finished
from bench.peers import systems as peers
from bench.peers.servers import OwnServers
from bench.systems import Four, Reference, System
from tests import servers

TASKFLOW: Final = Four
HTTP: Final[dict[type[System], int]] = {
    peers.Seed: 1_500,
    peers.Celery: 3_000,
    peers.Taskiq: 6_000,
    Reference: 30_000,
    Four: 20_000,
}
"""How many jobs each gets: some seconds' worth."""
DRAIN: Final[dict[type[System], int]] = {
    peers.CelerySolo: 10_000,
    peers.Celery: 8_000,
    peers.Dramatiq: 20_000,
    peers.Taskiq: 20_000,
    peers.TaskiqResults: 10_000,
    peers.Procrastinate: 4_000,
    peers.PgQueuer: 40_000,
    Reference: 40_000,
    Four: 40_000,
}
LATENCY: Final[dict[type[System], int]] = {peers.Seed: 0, Four: 0}


def http(system: System, jobs: int) -> dict[str, float]:
    """Jobs a second, end to end."""
    return {"http": end_to_end(system, jobs)["end to end"]}


def drain(system: System, jobs: int) -> dict[str, float]:
    """Jobs a second of a worker that starts on them."""
    system.fill(jobs)
    system.work()
    until_finished(system, jobs)
    return {"drain": rate_of(system.finishes())}


PARTS: Final[dict[str, tuple[dict[type[System], int], Callable[[System, int], dict[str, float]]]]] = {
    "http": (HTTP, http),
    "drain": (DRAIN, drain),
    "latency": (LATENCY, steady),
}
FIGURES: Final = ("http", "drain", "p50 ms", "p99 ms")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__.partition(":")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--only", default="", help="systems whose names contain one of these, parted by commas")
    parser.add_argument("--part", choices=PARTS, help="one part of it")
    parser.add_argument("--out", type=Path, help="a file for every figure, as JSON")
    wanted = parser.parse_args()
    found: dict[type[System], dict[str, list[float]]] = {}
    try:
        with OwnServers() as own:
            for round_ in range(wanted.rounds):
                for part in [wanted.part] if wanted.part else PARTS:
                    chosen, work = PARTS[part]
                    for kind, how in chosen.items():
                        if not any(word in kind.name for word in wanted.only.split(",")):
                            continue
                        with tempfile.TemporaryDirectory() as directory, kind(Path(directory), own) as system:  # type: ignore[arg-type]
                            for figure, value in work(system, how).items():
                                found.setdefault(kind, {}).setdefault(figure, []).append(value)
                                print(f"round {round_ + 1}: {kind.name}, {figure}: {value:,.1f}", file=sys.stderr)
    finally:
        servers.close()
    if wanted.out:
        wanted.out.write_text(json.dumps({kind.name: figures for kind, figures in found.items()}, indent=2))
    show(found)


def show(found: dict[type[System], dict[str, list[float]]]) -> None:
    """Medians, and how many times better TaskFlow's are."""
    medians = {
        kind: {figure: statistics.median(values) for figure, values in row.items()} for kind, row in found.items()
    }
    ours = medians.get(TASKFLOW, {})
    print(f"{'':22}{'durable':24}" + "".join(f"{figure:>18}" for figure in FIGURES))
    for kind, row in medians.items():
        cells = [cell(figure, row, ours) for figure in FIGURES]
        print(f"{kind.name:22}{kind.durable:24}" + "".join(f"{each:>18}" for each in cells))


def cell(figure: str, row: dict[str, float], ours: dict[str, float]) -> str:
    """A figure, and how many times better TaskFlow's is."""
    if figure not in row:
        return ""
    shown = f"{row[figure]:,.1f}" if figure.endswith("ms") else f"{row[figure]:,.0f}"
    if figure not in ours or row is ours:
        return shown
    better = row[figure] / ours[figure] if figure.endswith("ms") else ours[figure] / row[figure]
    return f"{shown} ({better:.2f}x)"


if __name__ == "__main__":
    main()
