"""Logs: lines of all runs of a worker become segment objects, each indexed right after it is stored.

Followers see lines at once. Lines lie in a spool file until they are indexed, so that a killed process loses none: the
next one ships them. While the object store is away the spool keeps what fits.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import orjson

from taskflow.core.errors import TaskFlowError
from taskflow.core.ids import new_id
from taskflow.flow.loops import Bell, Outage
from taskflow.ports.artifacts import Artifacts
from taskflow.ports.events import Events
from taskflow.ports.store import Files, Segment

PERIOD: Final = 1.0
SEGMENT_BYTES: Final = 4 << 20
JOB_BYTES: Final = 64 << 20
ALL_BYTES: Final = 1 << 30
RUNS_KNOWN: Final = 10_000
"""Runs whose size is remembered; the oldest is forgotten first."""

Run = tuple[str, int]


class LogShipper:
    """Takes lines from any thread and ships them from the main loop.

    Args:
        spool: directory for lines that are not indexed yet; `None` keeps them in memory only.
    """

    def __init__(
        self, files: Files, artifacts: Artifacts, events: Events, *, namespace: str, spool: Path | None
    ) -> None:
        self._files = files
        self._artifacts = artifacts
        self._events = events
        self._namespace = namespace
        self._spool_dir = spool
        self._spool: BinaryIO | None = None
        self._lock = threading.Lock()
        self._waiting: dict[Run, list[bytes]] = {}
        self._sizes: defaultdict[Run, int] = defaultdict(int)
        self._total = 0
        self._truncated: set[Run] = set()
        self._shipping: set[str] = set()
        self._seq = 0
        self._bell = Bell()
        self._main: asyncio.AbstractEventLoop | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._outage = Outage("object store (logs)")
        self.dropped = 0

    async def __aenter__(self) -> Self:
        self._main = asyncio.get_running_loop()
        if self._spool_dir is not None:
            self._spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._recover(self._spool_dir)
            self._open_spool()
        self._loop_task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop_task:
            self._loop_task.cancel()
            await asyncio.wait([self._loop_task])
        try:
            async with asyncio.timeout(5):
                await self._ship()
        except (TaskFlowError, TimeoutError) as lost:
            self._outage.lost(lost)

    def append(self, job_id: str, epoch: int, line: bytes) -> None:
        """Keep one NDJSON line; beyond the caps it is dropped and the log says truncated. From any thread."""
        run = (job_id, epoch)
        with self._lock:
            if self._sizes[run] + len(line) > JOB_BYTES or self._total + len(line) > ALL_BYTES:
                self._truncated.add(run)
                self.dropped += 1
                return
            first = run not in self._waiting
            self._waiting.setdefault(run, []).append(line)
            self._sizes[run] += len(line)
            if len(self._sizes) > RUNS_KNOWN:
                self._truncated.discard(oldest := next(iter(self._sizes)))
                del self._sizes[oldest]
            self._total += len(line)
            if self._spool is not None:
                self._write_spool(run, line)
        if first and self._main is not None:
            self._main.call_soon_threadsafe(self._bell.ring)

    def pending(self, job_id: str) -> bool:
        """Whether lines of a job are not indexed yet."""
        with self._lock:
            return job_id in self._shipping or any(run[0] == job_id for run in self._waiting)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                await self._bell.wait(60)
            await self._publish_and_wait()
            try:
                await self._ship()
                self._outage.back()
            except (TaskFlowError, OSError) as error:
                await asyncio.sleep(self._outage.lost(error))

    async def _publish_and_wait(self) -> None:
        told: defaultdict[Run, int] = defaultdict(int)
        end = time.monotonic() + PERIOD
        while (left := end - time.monotonic()) > 0:
            with self._lock:
                news = {run: b"".join(lines[told[run] :]) for run, lines in self._waiting.items()}
                told.update({run: len(lines) for run, lines in self._waiting.items()})
                size = self._total
            for run, text in news.items():
                if text:
                    await self._events.publish(f"logs:{run[0]}", text)
            if size > SEGMENT_BYTES:
                return
            await asyncio.sleep(min(left, 0.1))

    async def _ship(self) -> None:
        """One object for all jobs, then its index; what failed goes back in front."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._total = 0
            self._shipping = {job_id for job_id, _ in waiting}
            retired = self._rotate_spool()
        if not waiting:
            return
        try:
            segments, body = self._segments(waiting)
            await self._artifacts.put(segments[0].object, body)
            await self._files.add_segments(segments)
        except BaseException:
            with self._lock:
                for run, lines in waiting.items():
                    self._waiting[run] = lines + self._waiting.get(run, [])
                    self._total += sum(map(len, lines))
            raise
        finally:
            with self._lock:
                self._shipping = set()
        for path in retired:
            path.unlink(missing_ok=True)

    def _segments(self, waiting: dict[Run, list[bytes]]) -> tuple[Sequence[Segment], bytes]:
        now = datetime.now(UTC)
        name = new_id()
        key = f"{self._namespace}/logs/{now:%Y/%m/%d}/{name}.ndjson"
        segments, parts, offset = [], [], 0
        # A number from the clock keeps the segments of a run in order also across processes.
        self._seq = max(self._seq + 1, time.time_ns() // 1_000_000)
        for (job_id, epoch), lines in waiting.items():
            text = b"".join(lines)
            segments.append(
                Segment(
                    job_id=job_id,
                    epoch=epoch,
                    seq=self._seq,
                    object=key,
                    offset=offset,
                    length=len(text),
                    truncated=(job_id, epoch) in self._truncated,
                )
            )
            parts.append(text)
            offset += len(text)
        return segments, b"".join(parts)

    def _open_spool(self) -> None:
        assert self._spool_dir is not None
        self._spool = (self._spool_dir / f"{new_id()}.spool").open("ab", buffering=0)

    def _rotate_spool(self) -> list[Path]:
        """Close the present file; it and older ones may go once what they hold is indexed."""
        if self._spool is None or self._spool_dir is None:
            return []
        self._spool.close()
        retired = sorted(self._spool_dir.glob("*.spool"))
        self._open_spool()
        return retired

    def _write_spool(self, run: Run, line: bytes) -> None:
        assert self._spool is not None
        try:
            self._spool.write(orjson.dumps([run[0], run[1], line.decode("utf-8", "replace")]) + b"\n")
        except OSError as error:
            self._outage.lost(error)

    def _recover(self, directory: Path) -> None:
        """Take up what a killed process left; a line that was cut short is lost."""
        for path in sorted(directory.glob("*.spool")):
            for raw in path.read_bytes().splitlines():
                try:
                    job_id, epoch, line = orjson.loads(raw)
                except ValueError:
                    continue
                data = line.encode()
                self._waiting.setdefault((job_id, epoch), []).append(data)
                self._total += len(data)
        if self._waiting:
            self._bell.ring()
