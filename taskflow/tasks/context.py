"""What a handler is given about its run, where it asks for it by annotation."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


class Cancelled(Exception):
    """Raised by `Context.check` in a run that was asked to stop."""


class Effects(Protocol):
    """What the runner does for a context. Every method but the artifact ones may be called from any thread."""

    def emit_log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Keep one structured line of this run."""
        ...

    def set_progress(self, fraction: float, message: str | None) -> None:
        """Remember how far the run is."""
        ...

    async def put_artifact(self, name: str, data: bytes, content_type: str) -> None:
        """Keep a file of this job."""
        ...

    async def get_artifact(self, name: str) -> bytes:
        """Read a file of this job."""
        ...

    def put_artifact_sync(self, name: str, data: bytes, content_type: str) -> None:
        """`put_artifact` for handlers without a loop."""
        ...

    def get_artifact_sync(self, name: str) -> bytes:
        """`get_artifact` for handlers without a loop."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """The job as its handler sees it."""

    id: str
    task: str
    queue: str
    priority: int
    run: int
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    created_at: datetime


class Log:
    """Structured log lines of a run: `ctx.log.info("building", customer=7)`."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    def debug(self, message: str, **fields: Any) -> None:
        """Write a line at level debug."""
        self._effects.emit_log("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Write a line at level info."""
        self._effects.emit_log("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Write a line at level warning."""
        self._effects.emit_log("warning", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Write a line at level error."""
        self._effects.emit_log("error", message, fields)

    def exception(self, message: str, **fields: Any) -> None:
        """Write a line at level error with the traceback of the exception being handled, as field `exception`."""
        self._effects.emit_log("error", message, {"exception": traceback.format_exc(limit=-30), **fields})


class Files:
    """Files of the job: awaitable in `async def` handlers, `put_sync` and `get_sync` in the others.

    Names follow the grammar of names, with `/` allowed between parts.
    """

    def __init__(self, effects: Effects) -> None:
        self._effects = effects

    async def put(self, name: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Keep bytes under a name, replacing what was there."""
        await self._effects.put_artifact(name, data, content_type)

    async def get(self, name: str) -> bytes:
        """Read a file of this job, also of an earlier attempt.

        Raises:
            NotFound: there is none of this name.
        """
        return await self._effects.get_artifact(name)

    def put_sync(self, name: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        """`put` for a plain `def` handler."""
        self._effects.put_artifact_sync(name, data, content_type)

    def get_sync(self, name: str) -> bytes:
        """`get` for a plain `def` handler."""
        return self._effects.get_artifact_sync(name)


class Context:
    """One run of a job, given to the handler's parameter annotated `Context`.

    Attributes:
        job: what was submitted.
        attempt: number of this attempt, from 1.
        epoch: number of this execution; it only ever counts up.
        token: fencing token `job:epoch:worker`, for systems downstream that can compare it.
        log: structured lines; stdlib logging and print are captured too.
        artifacts: files of the job.
        resources: what the worker's `@lifespan` functions opened.
    """

    def __init__(
        self,
        job: JobInfo,
        *,
        attempt: int,
        epoch: int,
        worker: str,
        effects: Effects,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self.job = job
        self.attempt = attempt
        self.epoch = epoch
        self.token = f"{job.id}:{epoch}:{worker}"
        self.log = Log(effects)
        self.artifacts = Files(effects)
        self.resources: Mapping[str, Any] = resources if resources is not None else {}
        self._effects = effects

    def progress(self, fraction: float, message: str | None = None) -> None:
        """Say how far the run is; from async, thread and process handlers alike.

        Args:
            fraction: 0 to 1; clamped.
            message: what is being done.
        """
        # Clamped before it is converted: an integer may be larger than every float.
        self._effects.set_progress(float(min(1.0, max(0.0, fraction))), message)

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop (cancel, timeout, shutdown, lost lease)."""
        return self._effects.is_cancelled()

    def check(self) -> None:
        """Stop here if the run was asked to.

        Raises:
            Cancelled: it was.
        """
        if self.cancelled:
            raise Cancelled("the run was asked to stop")
