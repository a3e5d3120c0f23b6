"""Every failpoint, one after the other: a process dies before and after each call of each port, under load.

    python -m tests.faults.harness.march [--rounds 20] [--report build/failpoints.json]

Three processes with all roles share the points. Each is started with one, dies there, and is started with the next; the
account at the end is that of the chaos. What no process of TaskFlow calls by itself is called by one that does nothing
else. Between the rounds every point that can fail does so for some seconds, before and after the call, in all processes.
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from taskflow.testing.failpoints import LOG, POINTS, UNAVAILABLE, VARIABLE
from tests.faults.harness.caller import ARGUMENTS
from tests.faults.harness.clients import Crowd, tour
from tests.faults.harness.http import Http, closing
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.oracle import Account, account_of
from tests.faults.harness.stage import SCHEMA, Node, Stage
from tests.support import until_sync

ALL: Final = "api,consumer,scheduler"
NODES: Final = {"first": ALL, "second": ALL, "third": ALL}
LOST: Final = "after:store.claim=raise%0.3"
"""The reply of a claim is lost, so that rows are given back and drawn."""
HELPED: Final = {"store.release": LOST}
PATIENCE: Final = 60.0
STORM: Final = 0.04
REST: Final = 120.0
"""Seconds without an ending after which what is left is stuck. Jobs whose workers died twice run one at a time, so that what a
long march leaves of them may take minutes."""


@dataclass
class Report:
    """What was hit how often, and the account."""

    rounds: int
    kills: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    account: Account = field(default_factory=Account)

    @property
    def clean(self) -> bool:
        """Whether each was hit in each round, and nothing is wrong."""
        return self.account.clean and not self.missed and len(self.kills) == len(POINTS) and self.failures.total() > 0

    def document(self) -> dict[str, Any]:
        """For the file."""
        return {
            "rounds": self.rounds,
            "points": len(POINTS),
            "points_hit": len(self.kills),
            "kills": self.kills.total(),
            "least_hits_of_a_point": min((self.kills[point] for point in POINTS), default=0),
            "failures": self.failures.total(),
            "points_failed": len(self.failures),
            "seconds": round(self.seconds),
            **self.account.figures(),
            "missed": self.missed,
            "complaints": list(self.account.complaints()),
        }


class March:
    """Sends processes to their deaths."""

    def __init__(self, stage: Stage, ledger: Ledger, report: Report, directory: Path, chance: random.Random) -> None:
        self._stage, self._ledger, self._report, self._chance = stage, ledger, report, chance
        self._once: set[str] = set()
        self._log = directory / "fired"
        stage.environment[LOG] = str(self._log)

    def prepare(self) -> None:
        """Once without points: a task is known from when its first worker has started."""
        for node in self._stage.nodes:
            self._stage.start(node)
        self._stage.ready()
        self._end()

    def kill(self, turn: int) -> None:
        """Once at each point."""
        points: queue.SimpleQueue[str] = queue.SimpleQueue()
        for point in self._chance.sample(POINTS, len(POINTS)):
            if _call(point) not in ARGUMENTS:
                points.put(point)
        threads = [threading.Thread(target=self._die, args=(node, points, turn)) for node in self._stage.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for point in POINTS:
            if _call(point) in ARGUMENTS:
                self._call_alone(point)

    def storm(self, seconds: float) -> None:
        """Whatever can fail does, now and then."""
        rules = ";".join(
            f"{point}=raise%{STORM}"
            for point in POINTS
            if _call(point).partition(".")[0] in UNAVAILABLE and _call(point) not in ARGUMENTS and "ping" not in point
        )
        for node in self._stage.nodes:
            node.more = {VARIABLE: rules}
        self._all(seconds)

    def rest(self, crowd: Crowd) -> None:
        """No points any more, and no requests, until all is over."""
        for node in self._stage.nodes:
            node.more = {}
            self._stage.start(node)
        crowd.halt(self._stage.revive)
        least, since = self._stage.live(), time.monotonic()
        while least and time.monotonic() - since < REST:
            self._stage.revive()
            threading.Event().wait(0.2)
            if (live := self._stage.live()) < least:
                least, since = live, time.monotonic()

    def _all(self, seconds: float) -> None:
        """Run all of them for so long, then end them politely: with faults all around a stop is one more call."""
        for node in self._stage.nodes:
            self._stage.start(node)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._stage.revive()
            threading.Event().wait(0.05)
        self._end()
        lines = self._log.read_text().splitlines()
        self._report.failures = Counter(line.split()[1] for line in lines if line.endswith(" raise"))

    def _end(self) -> None:
        for node in self._stage.nodes:
            node.doomed = 0
            self._stage.signal(node, signal.SIGTERM)
        for node in self._stage.nodes:
            assert node.pid is not None
            self._stage.zygote.wait(node.pid, 60)

    def _die(self, node: Node, points: queue.SimpleQueue[str], turn: int) -> None:
        while True:
            try:
                point = points.get_nowait()
            except queue.Empty:
                return
            # Hot calls are met at different moments in each round; others come once in the life of a process.
            nth = 1 if turn == 0 or point in self._once else self._chance.choice([1, 1, 2, 3])
            rules = [f"{point}=kill@{nth}", HELPED.get(_call(point), "")]
            node.more = {VARIABLE: ";".join(filter(None, rules))}
            self._stage.start(node)
            if _call(point) == "store.stop":
                with suppress(AssertionError):
                    until_sync(lambda: "roles" in node.output[node.said :], PATIENCE)
                self._stage.signal(node, signal.SIGTERM)
            self._tour(node)
            if self._fired(node.pid, point):
                self._report.kills[point] += 1
                continue
            self._stage.signal(node, signal.SIGKILL)
            assert node.pid is not None
            self._stage.zygote.wait(node.pid)
            if nth > 1:
                self._once.add(point)
                points.put(point)
            else:
                self._report.missed.append(f"{point} in round {turn}: {node.output[node.said :][-300:]}")

    def _tour(self, node: Node) -> None:
        """Ask it for everything until it has died of it."""
        over, until = threading.Event(), time.monotonic() + PATIENCE

        def watch() -> None:
            while self._stage.code(node) is None and time.monotonic() < until:
                over.wait(0.02)
            over.set()

        watching = threading.Thread(target=watch)
        watching.start()
        with closing(Http([node.port], self._ledger, over)) as http:
            while not over.is_set():
                tour(self._ledger, http, self._chance, over)
        watching.join()

    def _call_alone(self, point: str) -> None:
        """By a process of its own."""
        environment = {**self._stage.environment, VARIABLE: f"{point}=kill"}
        arguments = ["-m", "tests.faults.harness.caller", _call(point)]
        pid = self._stage.zygote.start(arguments, self._stage.directory, environment)
        code = self._stage.zygote.wait(pid)
        if code == -signal.SIGKILL and self._fired(pid, point):
            self._report.kills[point] += 1
        else:
            self._report.missed.append(f"{point}: its caller ended with {code}")

    def _fired(self, pid: int | None, point: str) -> bool:
        return self._log.exists() and f"{pid} {point} kill" in self._log.read_text().splitlines()


def _call(point: str) -> str:
    return point.partition(":")[2]


def march(directory: Path, rounds: int, storm: float, seed: int) -> Report:
    """All of it."""
    report, ledger, began = Report(rounds), Ledger(), time.monotonic()
    with Stage(directory, NODES) as stage:
        steps = March(stage, ledger, report, directory, random.Random(seed))
        steps.prepare()
        with Crowd(stage.apis, ledger, rate=60, seed=seed, clients=2, operators=2) as crowd:
            for turn in range(rounds):
                steps.kill(turn)
                steps.storm(storm)
            steps.rest(crowd)
        report.account = account_of(ledger, stage.effects, stage.database, SCHEMA)
        report.account.unexpected += [f"{node.name} {end}" for node in stage.nodes for end in node.ends]
    report.seconds = time.monotonic() - began
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code says whether each was hit and the account is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--storm", type=float, default=10.0, help="seconds of failures after each round")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--report", type=Path, default=Path("build/failpoints.json"))
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="taskflow-march-") as directory:
        report = march(Path(directory), chosen.rounds, chosen.storm, chosen.seed)
    document = report.document()
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps({**document, "hits": dict(report.kills)}, indent=2) + "\n")
    lines = [
        f"{name.replace('_', ' '):24}{figure:>10,}" for name, figure in document.items() if isinstance(figure, int)
    ]
    lines += [*report.missed, *document["complaints"], "clean" if report.clean else "NOT CLEAN"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
