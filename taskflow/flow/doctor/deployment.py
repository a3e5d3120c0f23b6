"""What is examined."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from taskflow.flow.doctor.findings import Finding
from taskflow.ports.artifacts import Artifacts
from taskflow.ports.audit import Audit
from taskflow.ports.broker import Inspectable
from taskflow.ports.cache import Cache
from taskflow.ports.store import StateStore

LIMIT: Final = 1_000
"""Rows of a kind that are told of."""


class Life(StrEnum):
    """Who works with the store."""

    SHARED = "shared"
    """A server's: any number of processes."""
    STOPPED = "stopped"
    """The embedded one, and nobody else: whoever examines it holds its lock."""
    RUNNING = "running"
    """The embedded one, and the process that holds its lock: it may be looked at, and nothing else."""


class Store(StateStore, Audit, Protocol):
    """A store that can be asked about itself."""


class Answers(Protocol):
    """Something that proves that it is there."""

    async def ping(self) -> None:
        """Raise if it is not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is examined, opened.

    Attributes:
        sweep: seconds between a scheduler's sweeps.
        gap: seconds without one after which everybody's silence counts anew.
        servers: what must answer, by the name of its port.
        broker: `None` where it lies in the memory of another process, or tells nothing.
        cache: `None` where it lies in the memory of another process.
        cache_key: the key of a job's document in the cache.
        spool: where log lines wait on this host.
        ship: stores the lines that dead processes left there.
        everything: whether to look at all objects instead of some.
    """

    life: Life
    namespace: str
    sweep: float
    gap: float
    store: Store
    artifacts: Artifacts
    cache_key: Callable[[str], str]
    spool: Path
    ship: Callable[[], Awaitable[None]]
    servers: Mapping[str, Answers] = field(default_factory=dict)
    broker: Inspectable | None = None
    cache: Cache | None = None
    everything: bool = False


Check = Callable[[Deployment], Awaitable[list[Finding]]]
