"""Mixed load: clients that submit all kinds of work, and operators who look at it, cancel, replay and purge it."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self
from uuid import uuid4

from tests.faults.harness.http import Http, closing
from tests.faults.harness.ledger import Entry, Ledger, Told, now

JOB: Final = re.compile(r"job ([0-9a-f-]{36}) was stored")
MAYBE: Final = "may have been stored"
DELETED: Final = "was deleted just now"
RECENT: Final = 400
SIDE: Final = "side"
PATIENCE: Final = 120.0
LATER: Final = 30.0
"""Seconds; less than what is waited for at the end."""
TERMINAL: Final = frozenset({"succeeded", "cancelled", "expired"})
FIELDS: Final = ("state", "result", "epoch", "finished_at")
"""Of a document that can never change again."""
KINDS: Final = {
    "work.run": 70,
    "work.thread": 8,
    "work.process": 3,
    "work.flaky": 6,
    "work.snooze": 3,
    "work.dead": 3,
    "work.wordy": 7,
}


class Crowd:
    """Threads that keep a rate, until the context ends; `pausing` halts them meanwhile.

    Args:
        ports: of the APIs.
        rate: jobs a second, of all together.
        operators: how many; more than one of them ask every API in turn.
    """

    def __init__(
        self,
        ports: Sequence[int],
        ledger: Ledger,
        *,
        rate: float,
        seed: int,
        clients: int = 3,
        operators: int = 1,
    ) -> None:
        self._ports, self._ledger = ports, ledger
        self._fickle = operators > 1
        self._pause = clients / rate
        self._over = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._busy = 0
        self._counting = threading.Lock()
        self._threads = [
            threading.Thread(target=self._submit, args=(random.Random(f"{seed} client {number}"),))
            for number in range(clients)
        ]
        self._threads += [
            threading.Thread(target=self._operate, args=(random.Random(f"{seed} operator {number}"),))
            for number in range(operators)
        ]
        self.slowest = 0.0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._going.set()
        for thread in self._threads:
            thread.join(60)

    def halt(self, meanwhile: Callable[[], None]) -> None:
        """Nobody asks for anything until `go_on`; returns when all that was asked is answered."""
        self._going.clear()
        until = now() + PATIENCE
        while self._busy:
            assert now() < until, f"{self._busy} clients had no answer within {PATIENCE:g} s"
            meanwhile()

    def go_on(self) -> None:
        """Ask again."""
        self._going.set()

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """While somebody asks; whether it may, which it waits for."""
        while True:
            self._going.wait()
            with self._counting:
                # Halted in between, it was not counted.
                if self._going.is_set():
                    self._busy += 1
                    break
        try:
            yield not self._over.is_set()
        finally:
            with self._counting:
                self._busy -= 1

    def _submit(self, chance: random.Random) -> None:
        with closing(Http(self._ports, self._ledger, self._over)) as http:
            due = now()
            while not self._over.is_set():
                count = 1 if chance.random() < 0.5 else chance.randint(2, 40)
                with self._turn() as may:
                    if not may:
                        break
                    kinds = chance.choices(list(KINDS), list(KINDS.values()), k=count)
                    submit(self._ledger, http, chance, [self._ledger.ask(kind) for kind in kinds], self._over)
                # Who was held up does not make up for all of it.
                due = max(due + count * self._pause, now() - 1)
                self._over.wait(max(0.0, due - now()))
            self.slowest = max(self.slowest, http.slowest)

    def _operate(self, chance: random.Random) -> None:
        with closing(Http(self._ports, self._ledger, self._over, fickle=self._fickle)) as http:
            while not self._over.wait(0.02):
                recent = [entry for entry in list(self._ledger.entries.values())[-RECENT:] if entry.job_id]
                if recent:
                    with self._turn() as may:
                        if may:
                            chance.choice(ACTS)(self._ledger, http, chance.choice(recent), chance)


def submit(
    ledger: Ledger, http: Http, chance: random.Random, entries: Sequence[Entry], over: threading.Event, **fields: Any
) -> None:
    """Submit them together, with a key or without, all with these fields, and note what is told of each."""
    bodies = [_body(entry, chance) | fields for entry in entries]
    single = len(bodies) == 1 and chance.random() < 0.9
    path, body = ("/jobs", bodies[0]) if single else ("/jobs/batch", {"jobs": bodies})
    headers = {"Idempotency-Key": str(uuid4())} if chance.random() < 0.4 else {}
    while True:
        reply = http.ask("POST", path, body, headers)
        if reply is not None and reply.status == 207:
            for entry, item in zip(entries, reply.document["items"], strict=True):
                note(ledger, entry, item["status"], item.get("job") or item.get("problem"))
        else:
            for entry in entries:
                if reply is not None:
                    note(ledger, entry, reply.status, reply.document)
                elif entry.told is not Told.ACCEPTED:
                    entry.told, entry.tried = Told.UNKNOWN, True
        known = all(entry.told is Told.ACCEPTED for entry in entries)
        # With a key, a client may ask until it knows.
        if known or not headers or over.wait(0.1):
            return


def note(ledger: Ledger, entry: Entry, status: int, document: Any) -> None:
    """What an answer says about a job that was asked for."""
    detail = str(document.get("detail", "")) if isinstance(document, dict) else str(document)
    if status in (200, 202):
        entry.told, entry.job_id = Told.ACCEPTED, document["id"]
    elif status == 503 and (named := JOB.search(detail)):
        entry.told, entry.job_id = Told.UNKNOWN, named[1]
    elif status == 503 and MAYBE in detail:
        entry.told = Told.UNKNOWN
    elif status == 503:
        # A key's earlier try may have been stored, so only a first answer is a refusal.
        entry.told = Told.REFUSED if not entry.tried else Told.UNKNOWN
    elif status == 409 and entry.purged and DELETED in detail:
        # Between the key and its job somebody purged that: the client is told to send the request again.
        entry.told = Told.UNKNOWN
    else:
        ledger.surprise(f"a submit was answered {status}: {detail[:200]}")
    entry.tried = True


def _body(entry: Entry, chance: random.Random) -> dict[str, Any]:
    payload: dict[str, Any] = {"key": entry.key}
    body: dict[str, Any] = {"task": entry.kind, "payload": payload, "priority": chance.choice([2, 5, 5, 5, 8])}
    match entry.kind:
        case "work.run" if chance.random() < 0.05:
            payload["seconds"] = round(chance.uniform(0.5, 3.0), 2)
        case "work.wordy" if chance.random() < 0.3:
            payload["seconds"] = 0.7
        case "work.thread" | "work.process":
            payload["seconds"] = round(chance.uniform(0.0, 0.1), 3)
        case "work.flaky":
            payload["fail_times"] = chance.randint(1, 3)
    if chance.random() < 0.05:
        body["delay"] = round(chance.uniform(0.2, 3.0), 2)
    if chance.random() < 0.05:
        body["tags"] = ["chaos"]
        body["metadata"] = {"text": "x" * chance.randint(0, 3_000)}
    return body


def cancel(ledger: Ledger, http: Http, entry: Entry, _: random.Random) -> None:
    """Ask for an end."""
    if entry.told is not Told.ACCEPTED:
        return
    reply = http.ask("POST", f"/jobs/{entry.job_id}/cancel")
    if reply is not None and reply.status == 409:
        return  # over already, and not by this one
    if reply is not None and reply.status == 404 and entry.purged:
        return
    entry.cancel_asked = True
    if reply is not None and reply.status == 200:
        entry.cancelled_at = now()
    elif reply is not None and reply.status not in (202, 503):
        ledger.surprise(f"a cancel of {entry.job_id} was answered {reply.status}")


def look(ledger: Ledger, http: Http, entry: Entry, _: random.Random) -> None:
    """At a job; one that is over must look the same ever after."""
    # A submit that is made again may be accepted under another id meanwhile.
    job_id, told = entry.job_id, entry.told
    reply = http.ask("GET", f"/jobs/{job_id}")
    if reply is None or reply.status != 200:
        if reply is not None and reply.status == 404 and told is Told.ACCEPTED and not entry.purged:
            ledger.surprise(f"accepted job {job_id} of {entry.kind} was answered 404")
        return
    if reply.document["id"] != job_id or reply.document["payload"]["key"] != entry.key:
        ledger.surprise(f"asked for job {job_id} of {entry.key}, was told {str(reply.document)[:300]}")
    if reply.document["state"] in TERMINAL:
        seen = {name: reply.document[name] for name in FIELDS}
        if entry.seen not in (None, seen):
            ledger.surprise(f"job {job_id} was over as {entry.seen} and became {seen}")
        entry.seen = seen


def mend(ledger: Ledger, http: Http, _: Entry, chance: random.Random) -> None:
    """Replay dead letters with another payload, or purge one."""
    reply = http.ask("GET", "/dead-letters?limit=20")
    if reply is None or reply.status != 200:
        return
    for item in reply.document["items"]:
        entry = ledger.entries[item["payload"]["key"]]
        if entry.kind != "work.dead":
            ledger.surprise(f"job {item['id']} of {entry.kind} failed: {item['reason']} {item['error']}")
            continue
        if chance.random() < 0.1:
            purge(http, entry, item["id"])
        else:
            http.ask("POST", f"/jobs/{item['id']}/replay", {"payload": {"key": entry.key, "mended": True}})


def purge(http: Http, entry: Entry, job_id: str | None) -> None:
    """Delete a job, if it has failed; where no answer comes it may be gone."""
    # Others may ask for the same meanwhile, and be let.
    asked = object()
    entry.purges.append(asked)
    reply = http.ask("POST", "/dead-letters/purge", {"ids": [job_id]})
    if reply is not None and reply.status == 207 and reply.document["items"][0]["status"] == 409:
        entry.purges.remove(asked)


def read(_: Ledger, http: Http, entry: Entry, chance: random.Random) -> None:
    """What people look at."""
    http.ask("GET", chance.choice(pages_of(entry)))


def pages_of(entry: Entry) -> Sequence[str]:
    """Of a job, and of the system."""
    job = entry.job_id
    return (
        *("/jobs?limit=50", "/jobs?state=running", "/jobs?tag=chaos&limit=20", "/tasks", "/queues", "/workers"),
        *(f"/logs/{job}", f"/jobs/{job}/artifacts", f"/jobs/{job}/artifacts/words.txt", "/health", "/health/ready"),
    )


def manage(_: Ledger, http: Http, __: Entry, chance: random.Random) -> None:
    """A queue that nothing is submitted to is made, paused and resumed."""
    if chance.random() < 0.3:
        http.ask("POST", "/queues", {"name": SIDE})
    http.ask("POST", f"/queues/{SIDE}/{chance.choice(['pause', 'resume'])}")


def tour(ledger: Ledger, http: Http, chance: random.Random, over: threading.Event) -> None:
    """Everything that can be asked for, once, of one API."""
    wordy, dead, other = (ledger.ask(kind) for kind in ("work.wordy", "work.dead", "work.run"))
    for entry in (wordy, dead, other):
        # The last one is there to be cancelled, however long it takes to come to that.
        submit(ledger, http, chance, [entry], over, **({"delay": LATER} if entry is other else {}))
        if entry.job_id is None:
            return
    for entry in (wordy, dead):
        http.ask("GET", f"/jobs/{entry.job_id}", headers={"Prefer": "wait=2"})
    for page in pages_of(wordy):
        http.ask("GET", page)
    # One that another process ran long ago.
    http.ask("GET", f"/logs/{chance.choice(list(ledger.entries.values())[:RECENT]).job_id}")
    cancel(ledger, http, other, chance)
    look(ledger, http, other, chance)
    http.ask("POST", "/queues", {"name": SIDE})
    for act in ("pause", "resume"):
        http.ask("POST", f"/queues/{SIDE}/{act}")
    if chance.random() < 0.5:
        http.ask("POST", f"/jobs/{dead.job_id}/replay", {"payload": {"key": dead.key, "mended": True}})
    else:
        purge(http, dead, dead.job_id)


ACTS: Final = (cancel, look, look, look, mend, read, read, read, manage)
