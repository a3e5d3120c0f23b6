"""TaskFlow on servers of which one is in trouble, with what must hold of its jobs whatever happens to that one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.acceptance.cluster import Cluster
from tests.faults.watch import Answer, Watch
from tests.figures import Say
from tests.support import until_sync

BACK: Final = 30.0
"""Seconds after its end within which a fault must be forgotten, without a restart."""
ANSWERED: Final = 2.0 + 1.0
"""Seconds within which a submit is answered: two are promised, the rest is for a busy machine."""


class House:
    """Processes that work, and what was told of their jobs so far.

    Args:
        cluster: with its nodes started and ready.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._accepted: set[str] = set()
        self._named: set[str] = set()

    @contextmanager
    def watched(self, task: str = "test.noop", clients: int = 4, pause: float = 0.02) -> Iterator[Watch]:
        """Clients submit and look, first of all where all is well."""
        with Watch(self.cluster.port, task, clients=clients, pause=pause) as watch:
            until_sync(lambda: len(watch.accepted) >= 10, BACK)
            yield watch

    def works_again(self, watch: Watch) -> float:
        """Wait until what is submitted now is accepted and runs; the seconds that took."""
        healed = time.monotonic()
        before = len(watch.accepted)
        until_sync(lambda: len(watch.accepted) > before, BACK)
        newest = watch.accepted[-1]
        until_sync(lambda: self._state(newest) == "succeeded", BACK)
        took = time.monotonic() - healed
        assert took < BACK
        return took

    def owe(self, watch: Watch) -> None:
        """Remember what was promised; `settled` asks for it."""
        self._accepted |= set(watch.accepted)
        self._named |= watch.named

    def settled(self, *watches: Watch) -> None:
        """What was accepted has run; and nothing has that its client does not know by its id."""
        for watch in watches:
            self.owe(watch)
        until_sync(lambda: self.cluster.count("true", "jobs") == 0, BACK)
        rows = self.cluster.sql(f'SELECT id, state FROM "{self.cluster.namespace}".finished')
        states = {row["id"]: row["state"] for row in rows}
        assert self._accepted - states.keys() == set()
        assert states.keys() - self._accepted - self._named == set()
        assert set(states.values()) == {"succeeded"}

    def _state(self, job_id: str) -> str:
        answer = self.cluster.http.get(f"/jobs/{job_id}")
        return str(answer.json()["state"]) if answer.status_code == 200 else ""


def refused_well(watch: Watch, within: float = ANSWERED) -> list[Answer]:
    """The submits that were not accepted: each was told when to come back, in time, and the port never hung."""
    for answer in watch.refused:
        assert answer.status == 503, answer
        assert answer.told is not None, answer
        assert json.loads(answer.text)["type"] == "urn:taskflow:problem:store-unavailable", answer
    assert watch.slowest() < within, max(watch.answers, key=lambda answer: answer.seconds)
    for look in watch.looks:
        assert look.status in {200, 503}, look
    return watch.refused


def told(watch: Watch, what: str, say: Say, back: float) -> None:
    """Report how it went."""
    looks = max((look.seconds for look in watch.looks), default=0.0)
    say(
        what,
        f"{len(watch.accepted)} accepted, {len(watch.refused)} refused ({len(watch.named)} named), the slowest after "
        f"{watch.slowest():.2f} s, other answers {looks:.2f} s; works again after {back:.2f} s",
    )
