"""One run: its claim, its context, whether it was asked to stop, and its one ending."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from taskflow.core.job import Claim, Outcome, RunsIn
from taskflow.core.lifecycle import Ending
from taskflow.flow.effects import RunEffects
from taskflow.flow.run.stop import StopReason, stopped
from taskflow.tasks.context import Context, JobInfo
from taskflow.tasks.declare import Task

BEGIN: Final = 10.0
"""Seconds within which a run begins, else it is given back; one in a child process has its timeout for that if that is
longer. Well below the slack that the store leaves behind a timeout before it takes a run for lost."""


class Run:
    """The state of a run; `end` may be called from any thread, and only its first call counts.

    Args:
        main: the loop that claims and settles; files are written there.
        finished: takes the run and its ending, from any thread; once more where a run that was left behind is over.

    Attributes:
        began: when its handler was about to be called, on the monotonic clock; `None` before.
        reason: why it was asked to stop, `None` where it was not.
        left: whether it was left behind: reported, though its handler goes on.
        stopping: how it is told; given the run, which would otherwise lie about, holding itself, for the garbage collector.
    """

    __slots__ = (
        "_effects",
        "_finished",
        "_lock",
        "_started",
        "began",
        "claim",
        "ended",
        "left",
        "main",
        "reason",
        "stopping",
        "task",
        "timer",
    )

    def __init__(
        self,
        claim: Claim,
        task: Task[..., Any],
        effects: RunEffects,
        main: asyncio.AbstractEventLoop,
        finished: Callable[[Run, Ending], None],
    ) -> None:
        self.claim = claim
        self.task = task
        self.main = main
        self.began: float | None = None
        self.reason: StopReason | None = None
        self.ended = False
        self.left = False
        self.stopping: Callable[[Run], None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._effects = effects
        self._finished = finished
        self._started = time.monotonic()
        self._lock = threading.Lock()

    @property
    def kind(self) -> RunsIn:
        """Where it really runs."""
        return RunsIn.PROCESS if self.claim.isolated else self.task.runs_in

    @property
    def left_of_time(self) -> float:
        """Seconds until it is stopped: its timeout is the handler's, what comes before is the worker's."""
        timeout = self.claim.timeout
        if self.began is not None:
            deadline = min(self.began, self._started + BEGIN) + timeout
        else:
            deadline = self._started + (max(BEGIN, timeout) if self.kind is RunsIn.PROCESS else BEGIN)
        return deadline - time.monotonic()

    def begin(self) -> bool:
        """The handler is about to be called.

        Returns:
            Whether it may be: not where the run is over, and may begin somewhere else.
        """
        with self._lock:
            if not self.ended:
                self.began = time.monotonic()
            return not self.ended

    def withdraw(self) -> bool:
        """End a run that was stopped, where it has not begun and can be kept from it."""
        with self._lock:
            if self.ended or self.began is not None or self.kind is RunsIn.PROCESS:
                return False
            self.ended = True
        self._finished(self, stopped(self.claim, self.reason or StopReason.SHUTDOWN, began=False))
        return True

    def end(self, ending: Ending) -> None:
        """The run is over. What it was stopped for stands, unless it finished its work before it heard of a stop that
        is no timeout."""
        with self._lock:
            again, self.ended = self.ended, True
        reason = self.reason
        if reason is not None and (ending.outcome is not Outcome.SUCCEEDED or reason is StopReason.TIMEOUT):
            ending = stopped(self.claim, reason, began=self.began is not None)
        if self.left or not again:
            self._finished(self, ending)

    def context(self, resources: Mapping[str, Any]) -> Context:
        """What the handler is given."""
        return context_of(self.claim, self, resources)

    def emit_log(self, level: str, message: str, fields: Mapping[str, Any], source: str = "ctx.log") -> None:
        """Keep one line, unless the run is over."""
        if not self.ended:
            self._effects.log(self.claim, level, message, fields, source)

    def raw_line(self, line: bytes) -> None:
        """Keep a line made in a child process, unless the run is over."""
        if not self.ended:
            self._effects.raw_line(self.claim, line)

    def set_progress(self, fraction: float, message: str | None) -> None:
        """Remember how far the run is."""
        if not self.ended:
            self._effects.progress(self.claim, fraction, message)

    async def put_artifact(self, name: str, data: bytes, content_type: str) -> None:
        """Keep a file, on the main loop."""
        await self._on_main(partial(self._effects.put, self.claim, name, data, content_type))

    async def get_artifact(self, name: str) -> bytes:
        """Read a file, on the main loop."""
        data: bytes = await self._on_main(partial(self._effects.get, self.claim, name))
        return data

    def put_artifact_sync(self, name: str, data: bytes, content_type: str) -> None:
        """Keep a file, from a thread without a loop."""
        put = self._effects.put(self.claim, name, data, content_type)
        asyncio.run_coroutine_threadsafe(put, self.main).result()

    def get_artifact_sync(self, name: str) -> bytes:
        """Read a file, from a thread without a loop."""
        return asyncio.run_coroutine_threadsafe(self._effects.get(self.claim, name), self.main).result()

    def is_cancelled(self) -> bool:
        """Whether somebody wants it to end."""
        return self.reason is not None or self.ended

    async def _on_main(self, work: Callable[[], Any]) -> Any:
        if asyncio.get_running_loop() is self.main:
            return await work()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self.main))


def context_of(claim: Claim, effects: Any, resources: Mapping[str, Any]) -> Context:
    """The context of a claim over whatever carries its effects."""
    job = JobInfo(
        id=claim.id,
        task=claim.task,
        queue=claim.queue,
        priority=claim.priority,
        run=claim.run,
        tags=tuple(json.loads(claim.tags)),
        metadata=json.loads(claim.metadata),
        created_at=claim.created_at,
    )
    return Context(
        job, attempt=claim.attempt, epoch=claim.epoch, worker=claim.worker, effects=effects, resources=resources
    )
