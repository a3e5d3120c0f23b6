"""All of every pool at once: what a process has not needed yet it opens later, and that would look like a leak."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from operator import methodcaller
from typing import Final

from tests.faults.harness import troubles
from tests.faults.harness.clients import note, pages_of, submit
from tests.faults.harness.http import Http, closing
from tests.faults.harness.ledger import Ledger
from tests.faults.harness.stage import SCHEMA, Stage
from tests.support import until_sync

ASKERS: Final = 24
"""At a time of each API: more than the connections of any pool."""
SECONDS: Final = 6.0
SLOW: Final = {"postgresql": 0.03, "redis": 0.1}
"""Seconds that servers take longer to answer, so that calls overlap: of Redis, less than a call may take."""
CHILDREN: Final = 24
SUSPECTS: Final = 6
"""Jobs in child processes, and those of them that run in the slot for jobs that are thought to kill their workers."""
LONG: Final = 2.0
SOON: Final = 1.0
QUIET: Final = 60.0


def brim(stage: Stage, ledger: Ledger, seed: int) -> None:
    """Fill every pool of every process; returns when all that was asked for is over."""
    for server, seconds in SLOW.items():
        stage.proxies[server].do(methodcaller("delay", seconds))
    over = threading.Event()
    _children(stage, ledger, over)
    askers = len(stage.apis) * ASKERS
    with ThreadPoolExecutor(askers) as pool:
        asked = [pool.submit(_ask, stage, ledger, random.Random(f"{seed} asker {n}"), n, over) for n in range(askers)]
        over.wait(SECONDS)
        over.set()
        for each in asked:
            each.result()
    for server in stage.proxies:
        troubles.heal(stage, server)
    with suppress(AssertionError):  # the account says what is stuck
        until_sync(lambda: stage.live() == 0, QUIET)


def _ask(stage: Stage, ledger: Ledger, chance: random.Random, number: int, over: threading.Event) -> None:
    with closing(Http([stage.apis[number % len(stage.apis)]], ledger, over)) as http:
        while not over.is_set():
            entries = [ledger.ask(kind) for kind in chance.choices(["work.run", "work.wordy"], k=5)]
            submit(ledger, http, chance, entries, over)
            for entry in entries:
                if entry.job_id is not None:
                    http.ask("GET", chance.choice([f"/jobs/{entry.job_id}", *pages_of(entry)]))


def _children(stage: Stage, ledger: Ledger, over: threading.Event) -> None:
    """So many jobs in child processes that every worker has all of its slots full, that of the suspects, too."""
    entries = [ledger.ask("work.process") for _ in range(CHILDREN)]
    with closing(Http(stage.apis, ledger, over)) as http:
        for entry in entries:
            payload = {"key": entry.key, "seconds": LONG}
            reply = http.ask("POST", "/jobs", {"task": entry.kind, "payload": payload, "delay": SOON})
            if reply is not None:
                note(ledger, entry, reply.status, reply.document)
    ids = ", ".join(f"'{entry.job_id}'" for entry in entries[:SUSPECTS])
    stage.sql(f"UPDATE \"{SCHEMA}\".jobs SET crashes = 2 WHERE state = 'scheduled' AND id IN ({ids})")
