"""Mixed load, and kills and faults at random, and the account at the end: `make chaos MINUTES=10`.

    python -m tests.faults.harness.chaos --minutes 10 [--seed 7] [--rate 300] [--report build/chaos.json]

Roles are split. One API and one consumer are spared from kills, though not from what happens to the servers: their memory
and descriptors are measured when all is quiet, once after a third of the time and once at the end, each time after a burst
that opens every connection and child process that they may have, but for those to Redis, which are closed. The exit code is 0
where nothing was lost, closed twice, stuck, overlapping or unexpected.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.harness import troubles
from tests.faults.harness.brim import brim, let_go
from tests.faults.harness.clients import Crowd
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.oracle import SHOWN, Account, account_of
from tests.faults.harness.stage import SCHEMA, Node, Stage, descriptors, rss
from tests.faults.harness.troubles import Trouble
from tests.support import until_sync

NODES: Final = {
    "api1*": "api",
    "api2": "api",
    "consumer1*": "consumer",
    "consumer2": "consumer",
    "consumer3": "consumer",
    "scheduler1": "scheduler",
    "scheduler2": "scheduler",
}
MEASURED: Final = 5.0
"""Minutes from which it makes sense to ask what a process has come to hold."""
KILLS_EVERY, OTHERS_EVERY = 3.6, 7.0
"""Seconds between two, on average."""
POOL: Final = 4
"""Connections of each process to PostgreSQL: so few that a worker can use them all."""
REST: Final = 180.0
"""Seconds until everything must have ended when no fault is left."""
STILL: Final = 22.0
"""Seconds without a change: connections to S3 are kept for 10 s, and looked at every 10."""
MEGABYTE: Final = 1 << 20


@dataclass
class Measure:
    """What a process that is never killed holds when all is quiet: bytes, and open files by kind."""

    memory: int
    files: Counter[str]


@dataclass
class Report:
    """All that there is to say."""

    minutes: float
    seed: int
    troubles: Counter[str] = field(default_factory=Counter)
    proxies: dict[str, dict[str, int]] = field(default_factory=dict)
    measures: dict[str, list[Measure]] = field(default_factory=dict)
    refused_starts: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    seconds_to_rest: float = 0.0
    account: Account = field(default_factory=Account)

    @property
    def kills(self) -> int:
        """SIGKILLs of processes of TaskFlow."""
        return sum(count for name, count in self.troubles.items() if name.startswith("kill "))

    @property
    def others(self) -> int:
        """All the other troubles."""
        return self.troubles.total() - self.kills

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong, and something could have been: a run without faults shows nothing."""
        return self.account.clean and min(self.kills, self.others, self.account.accepted) > 0

    def growth(self) -> dict[str, dict[str, float]]:
        """Of the spared processes, between the two measures."""
        return {
            name: {
                "memory_mib": round((last.memory - first.memory) / MEGABYTE, 1),
                "descriptors": last.files.total() - first.files.total(),
                **{kind: last.files[kind] - first.files[kind] for kind in sorted(last.files | first.files)},
            }
            for name, (first, *_, last) in self.measures.items()
        }

    def document(self) -> dict[str, Any]:
        """For the file."""
        return {
            "minutes": self.minutes,
            "seed": self.seed,
            "kills": self.kills,
            "other_faults": self.others,
            **self.account.figures(),
            "outcomes": dict(self.account.outcomes),
            "growth": self.growth(),
            "refused_starts": self.refused_starts,
            "seconds_to_rest": round(self.seconds_to_rest, 1),
            "answers": self.answers,
            "troubles": dict(sorted(self.troubles.items())),
            "proxies": self.proxies,
            "complaints": list(self.account.complaints()),
        }

    def table(self) -> str:
        """For people."""
        document = self.document()
        names = (
            "minutes",
            "seed",
            "kills",
            "other_faults",
            *self.account.figures(),
            "refused_starts",
            "seconds_to_rest",
        )
        lines = [f"{name.replace('_', ' '):24}{document[name]:>12,}" for name in names]
        lines += [
            f"{name:24}{', '.join(f'{kind} {change:+}' for kind, change in grown.items() if change)}"
            for name, grown in document["growth"].items()
        ]
        lines += [f"{what:44}{count:>6}" for what, count in document["troubles"].items()]
        return "\n".join([*lines, *document["complaints"]])


class Director:
    """Keeps the play going."""

    def __init__(self, stage: Stage, crowd: Crowd, ledger: Ledger, report: Report) -> None:
        self._stage, self._crowd, self._ledger, self._report = stage, crowd, ledger, report
        self._chance = random.Random(f"{report.seed} troubles")
        self._going: list[tuple[float, Trouble]] = []
        self._tick = threading.Event()

    def play(self, seconds: float) -> None:
        """Trouble for so long."""
        end = time.monotonic() + seconds
        due = {troubles.kill: time.monotonic() + 2.0, troubles.other: time.monotonic() + 3.0}
        while time.monotonic() < end:
            self._turn()
            for what, at in due.items():
                if time.monotonic() >= at:
                    every = KILLS_EVERY if what is troubles.kill else OTHERS_EVERY
                    due[what] = time.monotonic() + every * self._chance.uniform(0.5, 1.5)
                    self._begin(what)

    def rest(self) -> float:
        """No more faults and no more requests, until all is over; the seconds that it took."""
        for _, trouble in self._going:
            trouble.undo()
        self._going.clear()
        for server in self._stage.proxies:
            troubles.heal(self._stage, server)
        # Whoever asks with a key asks until it is answered, so processes must come back meanwhile.
        self._crowd.halt(self._turn)
        began = time.monotonic()
        with suppress(AssertionError):
            until_sync(self._quiet, REST)
        return time.monotonic() - began

    def measure(self) -> None:
        """The spared ones, once all that they may hold is opened, and what they give back is given back."""
        brim(self._stage, self._ledger, self._report.seed)
        let_go(self._stage, self._ledger, self._report.seed)
        for node in self._stage.nodes:
            if node.spared and node.pid is not None:
                self._report.measures.setdefault(node.name, []).append(_settled(node, self._stage.peers))

    def _quiet(self) -> bool:
        self._turn()
        return self._stage.live() == 0

    def _turn(self) -> None:
        self._stage.revive()
        for at, trouble in list(self._going):
            if time.monotonic() >= at:
                trouble.undo()
                self._going.remove((at, trouble))
        self._tick.wait(0.03)

    def _begin(self, what: Callable[..., Trouble | None]) -> None:
        if what is troubles.kill:
            what = self._chance.choices([troubles.kill, troubles.term, troubles.stop], [8, 1, 2])[0]
        busy = {trouble.subject for _, trouble in self._going}
        trouble = what(self._stage, self._chance, busy)
        if trouble is not None:
            self._report.troubles[trouble.name] += 1
            self._going.append((time.monotonic() + trouble.seconds, trouble))


def _settled(node: Node, peers: Mapping[int, str]) -> Measure:
    """What it holds when it holds no less for a while."""
    assert node.pid is not None
    pid, least, since = node.pid, descriptors(node.pid, peers), time.monotonic()
    while time.monotonic() - since < STILL:
        threading.Event().wait(0.1)
        now = descriptors(pid, peers)
        if now.total() < least.total():
            least, since = now, time.monotonic()
    return Measure(rss(pid), least)


def play(directory: Path, minutes: float, seed: int, rate: float) -> Report:
    """All of it."""
    report, ledger = Report(minutes, seed), Ledger()
    with Stage(directory, NODES, pool_size=POOL) as stage:
        for node in stage.nodes:
            stage.start(node)
        stage.ready()
        with Crowd(stage.apis, ledger, rate=rate, seed=seed) as crowd:
            director = Director(stage, crowd, ledger, report)
            if minutes >= MEASURED:
                director.play(minutes * 60 * 0.3)
                director.rest()
                director.measure()
                crowd.go_on()
            director.play(minutes * 60 * (0.7 if minutes >= MEASURED else 1.0))
            report.seconds_to_rest = director.rest()
            if minutes >= MEASURED:
                director.measure()
        report.proxies = {name: dict(proxy.do(lambda p: p.faults)) for name, proxy in stage.proxies.items()}
        report.answers = ledger.answers
        report.account = account_of(ledger, stage.effects, stage.database, SCHEMA)
        report.account.unexpected += [f"{node.name} {end}" for node in stage.nodes for end in node.ends]
        report.refused_starts = stage.refused_starts
    return report


def main() -> int:
    """The exit code says whether the account is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--rate", type=float, default=250.0)
    parser.add_argument("--report", type=Path, default=Path("build/chaos.json"))
    parser.add_argument("--keep", type=Path, help="work in this directory, and leave it")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskflow-chaos-") as temporary:
        directory = chosen.keep or Path(temporary)
        directory.mkdir(exist_ok=True)
        report = play(directory, chosen.minutes, chosen.seed, chosen.rate)
    chosen.report.parent.mkdir(parents=True, exist_ok=True)
    chosen.report.write_text(json.dumps(report.document(), indent=2) + "\n")
    sys.stdout.write(f"{report.table()}\n\n{'clean' if report.clean else f'NOT CLEAN (first {SHOWN} of each)'}\n")
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
