"""One table of what TaskFlow does beside what its parts can do: `python -m bench [--jobs N] [--rounds N] [--only NAME]`.

Each system takes the same jobs (no-op handlers, 280 bytes of payload) over HTTP from 128 connections, in fresh processes,
interleaved in rounds. Every job that counts is durable: committed before its answer, settled before it is finished.

submit: `POST /jobs`, one job a request, nobody consumes. batch: `POST /jobs/batch`, 500 a request. drain: a consumer
starts on what was submitted; jobs between the 15th and 98th percentile of the times they finished, over the time between
those. end to end: one process accepts jobs one by one and runs them; all of them, over the time from the first request
to the last finish.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import pytest

from bench.load import post, send
from bench.raw_sqlite import NAME, raw_sqlite
from bench.systems import PAYLOAD, Embedded, Four, Reference, System
from tests import servers

SYSTEMS: Final[tuple[type[System], ...]] = (Reference, Four, Embedded)
FIGURES: Final = ("submit", "batch", "drain", "end to end")
BATCH: Final = 500
JOB: Final = {"task": "bench.noop", "payload": PAYLOAD}
STUCK: Final = 120.0


def measure(system: System, jobs: int) -> dict[str, float]:
    """Jobs a second of a system that was just entered: submit, batch and drain."""
    one = post(f"{system.prefix}/jobs", json.dumps(JOB).encode())
    many = post(f"{system.prefix}/jobs/batch", json.dumps({"jobs": [JOB] * BATCH}).encode())
    system.take()
    send(system.port, one, jobs // 20, accept=202)
    submit = send(system.port, one, jobs, accept=202)
    batch = send(system.port, many, jobs // BATCH, accept=207, connections=4)
    total = jobs // 20 + jobs + jobs // BATCH * BATCH
    system.work()
    until_finished(system, total)
    finishes = system.finishes()
    first, last = round(0.15 * total), round(0.98 * total)
    drain = (last - first) / (finishes[last] - finishes[first])
    return {"submit": jobs / submit, "batch": jobs // BATCH * BATCH / batch, "drain": drain}


def end_to_end(system: System, jobs: int) -> dict[str, float]:
    """Jobs a second of a system that was just entered, with everything in one process."""
    one = post(f"{system.prefix}/jobs", json.dumps(JOB).encode())
    system.both()
    send(system.port, one, jobs // 20, accept=202)
    until_finished(system, jobs // 20)
    begun = time.time()
    send(system.port, one, jobs, accept=202)
    until_finished(system, jobs // 20 + jobs)
    return {"end to end": jobs / (system.finishes()[-1] - begun)}


def until_finished(system: System, count: int) -> None:
    """Wait until so many jobs are; looks seldom, since looking costs the system too."""
    seen, deadline = -1, time.monotonic() + STUCK
    while (now := system.finished()) < count:
        if now > seen:
            seen, deadline = now, time.monotonic() + STUCK
        if time.monotonic() > deadline:
            raise RuntimeError(f"{system.name}: {now} of {count} jobs finished, and no more for {STUCK:.0f} s")
        time.sleep(0.25)


def show(rates: dict[str, dict[str, list[float]]]) -> None:
    """Medians, and what they are of the reference's; of a raw loop, which has no batches and no drain, what there is."""
    medians = {
        name: {figure: statistics.median(each) for figure, each in row.items() if each} for name, row in rates.items()
    }
    print(f"{'jobs/s':28}" + "".join(f"{figure:>12}" for figure in FIGURES))
    for name, row in medians.items():
        print(f"{name:28}" + "".join(f"{row[figure]:12,.0f}" if figure in row else f"{'':12}" for figure in FIGURES))
    medians.pop(NAME)
    base = medians.get(Reference.name)
    for name, row in medians.items():
        if base and row is not base:
            print(f"{name + ' / reference':28}" + "".join(f"{row[figure] / base[figure]:12.2f}" for figure in FIGURES))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition(":")[0])
    parser.add_argument(
        "--jobs", type=int, default=20_000, help=f"jobs a figure, at least {BATCH} (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--only", help="systems whose names contain this")
    wanted = parser.parse_args()
    if wanted.jobs < BATCH or wanted.rounds < 1:
        parser.error(f"nothing can be measured with fewer than {BATCH} jobs or without a round")
    systems = [each for each in SYSTEMS if not wanted.only or wanted.only in each.name]
    names = [NAME, *(each.name for each in systems)]
    rates: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in FIGURES} for name in names}
    try:
        for _ in range(wanted.rounds):
            with tempfile.TemporaryDirectory() as directory:
                for figure, rate in raw_sqlite(Path(directory), wanted.jobs).items():
                    rates[NAME][figure].append(rate)
            for each in systems:
                for part in (measure, end_to_end):
                    with tempfile.TemporaryDirectory() as directory, each(Path(directory)) as system:
                        for figure, rate in part(system, wanted.jobs).items():
                            rates[each.name][figure].append(rate)
    except pytest.skip.Exception as missing:
        sys.exit(f"{missing}; `--only embedded` needs no server")
    finally:
        servers.close()
    print(f"{wanted.jobs:,} jobs a figure, medians of {wanted.rounds} interleaved rounds")
    show(rates)


if __name__ == "__main__":
    main()
