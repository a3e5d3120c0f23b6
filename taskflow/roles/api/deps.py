"""What the API needs from the rest: ports, a few small callables, and its settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from taskflow.core.job import NewJob, Ticket
from taskflow.core.limits import BATCH_BODY_BYTES, BODY_BYTES
from taskflow.flow.catalog import Catalog
from taskflow.ports.artifacts import Artifacts
from taskflow.ports.cache import Cache
from taskflow.ports.events import Events
from taskflow.ports.limiter import Rate, RateLimiter
from taskflow.ports.store import Catalogue, Files, Inserted, Jobs, Workers
from taskflow.roles.stop import Stop


class Store(Jobs, Catalogue, Workers, Files, Protocol):
    """What of the store the API uses."""


class Submitter(Protocol):
    """Group commit."""

    async def submit(self, job: NewJob) -> Inserted:
        """Store one job; it is durable when this returns.

        Raises:
            DataRejected: the store refuses a value of this job for good.
            StoreUnavailable: it is not known to be stored.
        """
        ...

    async def submit_many(self, jobs: Sequence[NewJob]) -> Sequence[Inserted | BaseException]:
        """Store many; each answers for itself, in order."""
        ...


class Pending(Protocol):
    """Tells whether lines of a job are on their way."""

    def pending(self, job_id: str) -> bool:
        """Whether this process holds lines of a job that are not indexed yet."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """How the API behaves.

    Attributes:
        rate: what one client may post, `None` for no limit.
        keys: bearer keys that may use the API, in clear or as `sha256:` and the hex digest; none lets everybody in.
        trusted_proxies: addresses or networks whose X-Forwarded-For counts.
        wait_max: most seconds that `Prefer: wait` holds a request.
        deadline: seconds after which a request that does not wait is answered: 408 if its body is still coming, else 503.
        logs_wait: seconds that a settled job's last log lines are waited for.
    """

    version: str
    namespace: str = "taskflow"
    rate: Rate | None = None
    keys: Sequence[str] = ()
    trusted_proxies: Sequence[str] = ()
    body_bytes: int = BODY_BYTES
    batch_body_bytes: int = BATCH_BODY_BYTES
    wait_max: float = 60.0
    waiters_max: int = 10_000
    deadline: float = 20.0
    logs_wait: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDeps:
    """The ports and parts behind the routes.

    Attributes:
        publish: takes tickets of rows that are committed; never blocks.
        stop: ends waiting requests once it is asked.
        worker: the id of the worker in this process, `None` where there is none.
        health: each component by name: `None` where it is well, else what is wrong.
        ready: why each role of this process does not work, `None` where it does.
    """

    settings: ApiSettings
    store: Store
    submitter: Submitter
    catalog: Catalog
    publish: Callable[[Sequence[Ticket]], None]
    events: Events
    cache: Cache
    limiter: RateLimiter
    artifacts: Artifacts
    pending: Pending
    worker: Callable[[], str | None]
    stop: Stop
    health: Callable[[], Awaitable[Mapping[str, str | None]]]
    ready: Callable[[], Mapping[str, str | None]]
