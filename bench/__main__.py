"""One table of what TaskFlow does beside what its parts can do: `python -m bench [--jobs N] [--rounds N] [--only NAME]`.

Each system takes the same jobs (no-op handlers, 300 bytes of payload) over HTTP from 256 connections, in fresh processes,
interleaved in rounds. Every job that counts is durable: committed before its answer, settled before it is finished.

submit: `POST /jobs`, one job a request, nobody consumes. batch: `POST /jobs/batch`, 500 a request. drain: a consumer
starts on what was submitted; jobs between the 15th and 98th percentile of the times they finished, over the time between
those. end to end: one process accepts jobs one by one and runs them; all of them, over the time from the first request
to the last finish; by batch: the same, 500 a request. p50, p99: milliseconds from a request to the end of its job, at 100 requests a second.

Below it, what single parts cost beside the least that could do the same: a call, which is of as many jobs as the name says.

`--check` compares every ratio with `bench/baseline.json` and fails where one is worse by more than a quarter, also when all is
measured once more; `--save` makes the present ratios that baseline.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.raw_sqlite import NAME as RAW
from bench.systems import BATCH, Embedded, Four, Reference

HERE: Final = Path(__file__).parent
BASELINE: Final = HERE / "baseline.json"
FIGURES: Final = ("submit", "batch", "drain", "end to end", "by batch", "p50 ms", "p99 ms")
YARDSTICKS: Final = {Four.name: Reference.name, Embedded.name: RAW}
"""What each system is compared with."""
WORSE: Final = 1.25
NOTHING: Final = 5
"""What pytest ends with where it had nothing to do."""

Medians = dict[str, dict[str, float]]


def measured(suites: list[str], more: list[str], **environment: str) -> list[dict[str, Any]]:
    """What pytest-benchmark tells of each test of these suites."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        words = [
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--benchmark-enable",
            f"--benchmark-json={report}",
            "--benchmark-quiet",
        ]
        done = subprocess.run(
            [sys.executable, *words, *(str(HERE / suite) for suite in suites), *more],
            cwd=HERE.parent,
            env={**{name: value for name, value in os.environ.items() if "XDIST" not in name}, **environment},
        )
        if done.returncode == NOTHING:
            sys.exit(f"no system or part is called {' '.join(more[1:])}")
        if done.returncode:
            sys.exit(done.returncode)
        found: list[dict[str, Any]] = json.loads(report.read_text())["benchmarks"]
        return found


def of_systems(tests: list[dict[str, Any]]) -> Medians:
    """Medians over rounds, by system and figure."""
    rates: dict[str, dict[str, list[float]]] = {}
    for test in tests:
        if told := test["extra_info"]:
            for figure, value in told["figures"].items():
                rates.setdefault(told["system"], {}).setdefault(figure, []).append(value)
    return {name: {figure: statistics.median(each) for figure, each in row.items()} for name, row in rates.items()}


def of_parts(tests: list[dict[str, Any]]) -> Medians:
    """Microseconds of each part, by group; the yardstick of a group is called `raw`."""
    parts: Medians = {}
    for test in tests:
        if group := test["group"]:
            name = test["name"].removeprefix("test_")
            took = test["stats"]["median"] * 1e6
            parts.setdefault(group, {})["raw" if name.startswith("raw_") else name] = took
    return parts


def ratios(systems: Medians, parts: Medians) -> dict[str, float]:
    """How much of its yardstick each figure costs: 1 is as good as it, 2 half as good."""
    found = {}
    for name, yardstick in YARDSTICKS.items():
        for figure, value in systems.get(name, {}).items():
            if raw := systems.get(yardstick, {}).get(figure):
                found[f"{name}: {figure}"] = value / raw if figure.endswith("ms") else raw / value
    for group, row in parts.items():
        found |= {f"{group}: {name}": took / row["raw"] for name, took in row.items() if name != "raw" and "raw" in row}
    return found


def show(systems: Medians, parts: Medians) -> Iterator[str]:
    """Lines of the tables."""
    if systems:
        yield f"{'jobs/s':28}" + "".join(f"{figure:>12}" for figure in FIGURES)
    for name, row in systems.items():
        yield f"{name:28}" + "".join(_cell(figure, row.get(figure)) for figure in FIGURES)
    for name, yardstick in YARDSTICKS.items():
        if name in systems and yardstick in systems:
            ours, raw = systems[name], systems[yardstick]
            shown = [
                f"{ours[each] / raw[each]:12.2f}" if each in ours and each in raw else " " * 12 for each in FIGURES
            ]
            yield f"{'/ ' + yardstick:28}" + "".join(shown)
    for group, row in parts.items():
        raw = row.get("raw")
        for name, took in row.items():
            yield f"{group:16}{name:24}{took:12,.1f} us" + (f"{took / raw:8.2f} x raw" if raw and name != "raw" else "")


def _cell(figure: str, value: float | None) -> str:
    if value is None:
        return " " * 12
    return f"{value:12,.1f}" if figure.endswith("ms") else f"{value:12,.0f}"


def worse(now: dict[str, float], then: dict[str, float]) -> list[str]:
    """What costs more than it did, over its yardstick."""
    return [
        f"{name}: {now[name]:.2f} times its yardstick, {before:.2f} before"
        for name, before in then.items()
        if name in now and now[name] > WORSE * before
    ]


def unmeasured(now: dict[str, float], then: dict[str, float], suite: str | None) -> list[str]:
    """What of a suite, or of both, the baseline has and this run has not."""
    ours = [name for name in then if suite is None or (name.partition(": ")[0] in YARDSTICKS) == (suite == "macro")]
    return [name for name in ours if name not in now]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition(":")[0])
    parser.add_argument(
        "--jobs", type=int, default=20_000, help=f"jobs a figure, at least {BATCH} (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--only", help="systems and parts by a word of their names, or several (`four or claim`)")
    parser.add_argument("--suite", choices=("macro", "micro"), help="systems only, or parts only")
    parser.add_argument("--check", action="store_true", help="fail where a ratio is worse than the baseline's")
    parser.add_argument("--save", action="store_true", help="make these ratios the baseline")
    wanted = parser.parse_args()
    if wanted.jobs < BATCH or wanted.rounds < 1:
        parser.error(f"nothing can be measured with fewer than {BATCH} jobs or without a round")
    if wanted.check and wanted.save:
        parser.error("what is saved is what it would be compared with: --check or --save")

    def measure() -> tuple[Medians, Medians]:
        tests = measured(
            [wanted.suite] if wanted.suite else ["macro", "micro"],
            ["-k", wanted.only] if wanted.only else [],
            BENCH_JOBS=str(wanted.jobs),
            BENCH_ROUNDS=str(wanted.rounds),
        )
        return of_systems(tests), of_parts(tests)

    systems, parts = measure()
    if systems:
        print(f"{wanted.jobs:,} jobs a figure, medians of {wanted.rounds} interleaved rounds")
    print("\n".join(show(systems, parts)))
    now = ratios(systems, parts)
    if wanted.save:
        # What was not measured stays as it was.
        kept = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
        kept |= {name: round(ratio, 3) for name, ratio in now.items()}
        BASELINE.write_text(json.dumps(kept, indent=2) + "\n")
    if wanted.check:
        then: dict[str, float] = json.loads(BASELINE.read_text())
        if not wanted.only and (missing := unmeasured(now, then, wanted.suite)):
            sys.exit("\n".join(["in the baseline, and not measured (--save makes a new one):", *missing]))
        if worse(now, then):
            # Somebody else may have been busy here: what is really worse is worse again.
            again = ratios(*measure())
            now = {name: min(ratio, again.get(name, ratio)) for name, ratio in now.items()}
        if found := worse(now, then):
            sys.exit("\n".join(["worse than the baseline:", *found]))


if __name__ == "__main__":
    main()
