"""Submit: a job becomes durable. The answer goes out after the commit; its ticket follows behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from taskflow.core.errors import StoreUnavailable
from taskflow.core.job import NewJob
from taskflow.flow.batch import Batcher, Together
from taskflow.flow.publish import Publisher
from taskflow.ports.store import Inserted, Jobs

PATIENCE: Final = 0.3
"""Seconds behind a write that failed, after which a submit fails with it; see `Batcher`."""


class Submitter:
    """Stores admitted jobs by group commit and offers their tickets.

    Keyed and keyless jobs are committed apart: a key may wait for another transaction's row, which must not hold up
    those that wait for nobody.

    Args:
        due: told in how many seconds a stored job falls due, where that is not now.
    """

    def __init__(self, jobs: Jobs, publisher: Publisher, due: Callable[[float], None] = lambda _: None) -> None:
        self._jobs = jobs
        self._publisher = publisher
        self._due = due
        # Whoever submits is answered in time, also behind a write that the store did not answer.
        self._keyless = Batcher(self._write, weigh=_weight, patience=PATIENCE)
        self._keyed = Batcher(self._write, weigh=_weight, in_flight=1, patience=PATIENCE)

    async def submit(self, job: NewJob) -> Inserted:
        """Store one job.

        Raises:
            DataRejected: the store refuses a value of this job for good.
            StoreUnavailable: it is not known to be stored.
        """
        return await self._batcher(job).put(job)

    async def submit_many(self, jobs: Sequence[NewJob]) -> list[Inserted | BaseException]:
        """Store many; each answers for itself, in order."""
        if not jobs:
            return []
        together: Together[Inserted] = Together(len(jobs))
        for index, job in enumerate(jobs):
            receiver = together.place(index)
            try:
                self._batcher(job).hand(job, receiver)
            except StoreUnavailable as error:
                receiver.set_exception(error)
        return await together.results()

    def _batcher(self, job: NewJob) -> Batcher[NewJob, Inserted]:
        return self._keyed if job.idempotency else self._keyless

    async def _write(self, jobs: Sequence[NewJob]) -> Sequence[Inserted]:
        stored = await self._jobs.insert(jobs)
        self._publisher.offer([row.ticket for row in stored if row.ticket])
        delays = [(row.run_at - row.created_at).total_seconds() for row in stored if row.run_at and not row.ticket]
        if delays:
            self._due(min(delays))
        return stored


def _weight(job: NewJob) -> int:
    return len(job.payload) + len(job.metadata)
