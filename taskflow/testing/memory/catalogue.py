"""The catalogue: tasks and queues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from taskflow.core.job import State
from taskflow.ports.store import QueueInfo, TaskInfo
from taskflow.testing.memory.tables import Tables

DEPTH_SHOWN: Final = 10_000


class CataloguePart:
    """The part of the store that knows what can be run, and where."""

    _tables: Tables

    async def publish_tasks(self, tasks: Sequence[TaskInfo], *, now: datetime | None = None) -> None:
        """Insert or update tasks and their queues."""
        moment = self._tables.now(now)
        self._tables.tasks.update({task.name: replace(task, updated_at=moment) for task in tasks})
        await self.ensure_queues([task.queue for task in tasks])

    async def tasks(self) -> list[TaskInfo]:
        """All known tasks, by name."""
        living = [info for info in self._tables.workers.values() if info.state == "alive"]
        return [
            replace(task, live_workers=sum(name in info.tasks for info in living))
            for name, task in sorted(self._tables.tasks.items())
        ]

    async def ensure_queues(self, names: Sequence[str]) -> None:
        """Create queues."""
        for name in names:
            self._tables.queues.setdefault(name, QueueInfo(name=name))

    async def queue_names(self) -> dict[str, bool]:
        """Every queue and whether it is paused."""
        return {name: queue.paused for name, queue in self._tables.queues.items()}

    async def queues(self) -> list[QueueInfo]:
        """Every queue with what stands in it."""
        return [self._counted(queue) for _, queue in sorted(self._tables.queues.items())]

    async def pause(self, queue: str, reason: str | None) -> bool:
        """Stop claims from a queue."""
        return self._set_paused(queue, paused=True, reason=reason)

    async def resume(self, queue: str) -> bool:
        """Allow claims again."""
        return self._set_paused(queue, paused=False, reason=None)

    def _set_paused(self, name: str, *, paused: bool, reason: str | None) -> bool:
        found = self._tables.queues.get(name)
        if found is None:
            return False
        self._tables.queues[name] = replace(found, paused=paused, pause_reason=reason)
        return True

    def _counted(self, queue: QueueInfo) -> QueueInfo:
        mine = [row for row in self._tables.jobs.values() if row.asked.queue == queue.name]
        since = [row.queued_at for row in mine if row.state is State.QUEUED and row.queued_at is not None]
        return replace(
            queue,
            depth=min(len(since), DEPTH_SHOWN),
            depth_capped=len(since) > DEPTH_SHOWN,
            running=sum(row.state is State.RUNNING for row in mine),
            oldest=max(0.0, (self._tables.clock() - min(since)).total_seconds()) if since else None,
        )
