"""Runners with everything around them in memory."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from taskflow.core.job import Claim, Outcome, RunsIn
from taskflow.core.lifecycle import Ending
from taskflow.flow.effects import RunEffects
from taskflow.flow.progress import ProgressWriter
from taskflow.flow.run import Runners
from taskflow.ports.store import Jobs
from taskflow.tasks.declare import Lifespan, Task
from taskflow.tasks.registry import Registry
from tests.flow.fakes import Index, Objects
from tests.support import until

_numbers = itertools.count(1)


class RunsHouse:
    """Starts runs and remembers how they ended."""

    def __init__(
        self, registry: Registry, *, lease: float = 30.0, loop: int = 8, thread: int = 8, process: int = 8
    ) -> None:
        self.lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.endings: defaultdict[str, list[Ending]] = defaultdict(list)
        self.fatal: list[str] = []
        self.freed = self.caught_up = 0
        self.index, self.objects = Index(), Objects()
        self.progress = ProgressWriter(cast("Jobs", self))  # it uses one method
        self.said: list[tuple[str, int, str, str]] = []
        effects = RunEffects(self, self.progress, self.index, self.objects, "ns")
        self.runners = Runners(
            registry,
            {RunsIn.ASYNC: loop, RunsIn.THREAD: thread, RunsIn.PROCESS: process},
            lambda claim, ending: self.endings[claim.id].append(ending),
            effects=effects,
            lease=lease,
            fatal=self.fatal.append,
            freed=self._free,
            caught_up=self._catch_up,
        )

    @classmethod
    def of(
        cls, *tasks: Task[..., Any], lifespans: Sequence[Lifespan] = (), loop: int = 8, thread: int = 8
    ) -> RunsHouse:
        return cls(Registry(tasks, lifespans), loop=loop, thread=thread)

    def _free(self) -> None:
        self.freed += 1

    def _catch_up(self) -> None:
        self.caught_up += 1

    def append(self, job_id: str, epoch: int, line: bytes) -> None:
        self.lines[job_id].append(json.loads(line))

    async def set_progress(self, progress: Sequence[tuple[str, int, str, str]]) -> None:
        self.said += progress

    def start(self, task: str, /, timeout: float = 30.0, *, crashes: int = 0, **payload: Any) -> str:
        """Begin a run.

        Returns:
            The id of its job.
        """
        job_id = f"job-{next(_numbers)}"
        now = datetime.now(UTC)
        self.runners.start(
            Claim(
                id=job_id,
                tenant="default",
                task=task,
                queue="default",
                priority=5,
                payload=json.dumps(payload),
                epoch=1,
                worker="w",
                attempt=1,
                tries=1,
                max_attempts=5,
                timeout=timeout,
                run=1,
                crashes=crashes,
                interruptions=0,
                snoozes=0,
                tags="[]",
                metadata="{}",
                created_at=now,
                started_at=now,
            )
        )
        return job_id

    async def ending(self, job_id: str, within: float = 20.0) -> Ending:
        """How the run of a job ended."""
        await until(lambda: self.endings[job_id], within)
        return self.endings[job_id][0]

    async def outcome(self, job_id: str, within: float = 20.0) -> Outcome:
        """Only its outcome."""
        return (await self.ending(job_id, within)).outcome

    async def result(self, task: str, /, **payload: Any) -> Any:
        """Run a task that succeeds."""
        ending = await self.ending(self.start(task, **payload))
        assert ending.outcome is Outcome.SUCCEEDED, ending
        return json.loads(ending.result or "null")

    def messages(self, job_id: str) -> list[str]:
        """What a job's runs wrote."""
        return [line["message"] for line in self.lines[job_id]]
