"""What a process has not needed yet it opens later, and that would look like a leak: so all of every pool is opened at once.

The pools of Redis are made empty instead. Whether they are ever full is left to chance: their calls are short, and a Redis that is made
slow enough to fill them may be taken for a lost one, whose idle connections are let go of.
"""

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
from tests.throwaway.proxy import Proxy

ASKERS: Final = 24
"""At a time of each API: more than the connections of any pool."""
SECONDS: Final = 6.0
AWAY: Final = 3.0
"""Seconds without Redis: long enough for every process to need it once."""
BACK: Final = 5.0
"""Seconds in which every process finds out that Redis is back: they look every 2."""
SLOW: Final = 0.03
"""Seconds that PostgreSQL takes longer to answer, so that calls overlap."""
CHILDREN: Final = 24
SUSPECTS: Final = 6
"""Jobs in child processes, and those of them that run in the slot for jobs that are thought to kill their workers."""
LONG: Final = 2.0
SOON: Final = 1.0
QUIET: Final = 60.0


def brim(stage: Stage, ledger: Ledger, seed: int) -> None:
    """Fill every pool of every process; returns when all that was asked for is over."""
    stage.proxies["postgresql"].do(methodcaller("delay", SLOW))
    over = threading.Event()
    _children(stage, ledger, over)
    _load(stage, ledger, seed, ASKERS, SECONDS, over)
    for server in stage.proxies:
        troubles.heal(stage, server)
    _quiet(stage)


def let_go(stage: Stage, ledger: Ledger, seed: int) -> None:
    """Empty the pools of Redis: it is away while everybody needs it. Each process then has one connection a use, and its subscription."""
    stage.proxies["redis"].do(Proxy.part)
    _load(stage, ledger, seed, 1, AWAY, threading.Event())
    for port in stage.apis:
        _health(ledger, port)
    troubles.heal(stage, "redis")
    for port in stage.apis:
        until_sync(lambda port=port: _health(ledger, port) == "ok", QUIET)  # type: ignore[misc]
    threading.Event().wait(BACK)
    _quiet(stage)


def _health(ledger: Ledger, port: int) -> str:
    with closing(Http([port], ledger, threading.Event())) as http:
        reply = http.ask("GET", "/health")
        return str(reply.document["status"]) if reply is not None and isinstance(reply.document, dict) else ""


def _quiet(stage: Stage) -> None:
    with suppress(AssertionError):  # the account says what is stuck
        until_sync(lambda: stage.live() == 0, QUIET)


def _load(stage: Stage, ledger: Ledger, seed: int, each: int, seconds: float, over: threading.Event) -> None:
    """So many askers of each API, for so long."""
    askers = len(stage.apis) * each
    with ThreadPoolExecutor(askers) as pool:
        asked = [pool.submit(_ask, stage, ledger, random.Random(f"{seed} asker {n}"), n, over) for n in range(askers)]
        over.wait(seconds)
        over.set()
        for one in asked:
            one.result()


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
