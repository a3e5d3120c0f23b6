"""What clients asked for and were told: one side of the oracle's account."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


class Told(enum.StrEnum):
    """What a client knows about a submit."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Entry:
    """One job that a client wanted.

    Attributes:
        key: names it in its payload and in its effects.
        kind: the task.
        told: what came back.
        job_id: its id, where one was told.
        cancelled_at: when a cancel was answered with the state `cancelled`, on the clock of the effects.
        cancel_asked: whether a cancel was answered with 202, or not answered at all.
        tried: whether an answer to its submit has come before.
        purges: requests to delete it that were not refused; who asks adds one before.
        seen: what it was when it was seen to be over.
    """

    key: str
    kind: str
    told: Told = Told.UNKNOWN
    job_id: str | None = None
    cancelled_at: float | None = None
    cancel_asked: bool = False
    tried: bool = False
    purges: list[object] = field(default_factory=list)
    seen: dict[str, object] | None = None

    @property
    def purged(self) -> bool:
        """Whether it may have been deleted."""
        return bool(self.purges)


@dataclass
class Ledger:
    """All of them, by key. Threads may write.

    Attributes:
        answers: how many answers had which status.
        surprises: what no client may ever see.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, kind: str) -> Entry:
        """A new entry."""
        with self._lock:
            entry = Entry(f"k{len(self.entries)}", kind)
            self.entries[entry.key] = entry
            return entry

    def count(self, status: int | str) -> None:
        """An answer came."""
        with self._lock:
            self.answers[str(status)] = self.answers.get(str(status), 0) + 1

    def surprise(self, what: str) -> None:
        """Remember what must not be."""
        with self._lock:
            self.surprises.append(what)

    def told(self, told: Told) -> Iterator[Entry]:
        """The entries that clients know this of."""
        return (entry for entry in list(self.entries.values()) if entry.told is told)

    @property
    def accepted(self) -> int:
        """How many were accepted."""
        return sum(1 for _ in self.told(Told.ACCEPTED))


def now() -> float:
    """The clock of the effects."""
    return time.monotonic()
