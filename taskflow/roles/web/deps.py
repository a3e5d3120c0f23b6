"""What the API needs, as plain ports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from taskflow.core.job import Ticket
from taskflow.flow.catalog import Catalog
from taskflow.flow.logs import LogReader
from taskflow.flow.submit import Submitter
from taskflow.ports.artifacts import Artifacts
from taskflow.ports.cache import Cache
from taskflow.ports.events import Events
from taskflow.ports.limiter import Rate, RateLimiter
from taskflow.ports.store import StateStore
from taskflow.roles.stop import Stop


class Pending(Protocol):
    """Tells whether lines of a job are on their way."""

    def pending(self, job_id: str) -> bool:
        """Whether lines of a job are not indexed yet."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """How the API behaves. `keys` are bearer keys; none lets everybody in."""

    version: str
    namespace: str = "taskflow"
    rate: Rate | None = None
    keys: Sequence[str] = ()
    trusted_proxies: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDeps:
    """The ports and parts behind the routes.

    Attributes:
        health: status of each component by name: `None` where it is well, else what is wrong.
        ready: why each role of this process does not work, `None` where it does.
    """

    settings: ApiSettings
    store: StateStore
    submitter: Submitter
    catalog: Catalog
    publish: Callable[[Sequence[Ticket]], None]
    events: Events
    cache: Cache
    limiter: RateLimiter
    artifacts: Artifacts
    logs: LogReader
    pending: Pending
    stop: Stop
    health: Callable[[], Awaitable[Mapping[str, str | None]]]
    ready: Callable[[], Mapping[str, str | None]]
