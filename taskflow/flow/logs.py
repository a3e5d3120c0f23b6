"""Logs: lines of all runs of a worker become segment objects, each indexed right after it is stored.

Followers see lines at once. Lines lie in a spool until they are indexed, so that a killed process loses none: another
one ships them. While the object store is away the spools of a host keep what fits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from taskflow.core.errors import DataRejected
from taskflow.core.ids import new_id
from taskflow.flow import capture
from taskflow.flow.loops import LONGEST, Bell, Outage
from taskflow.flow.spool import Batch, Run
from taskflow.flow.spool_room import Room
from taskflow.ports.artifacts import Artifacts
from taskflow.ports.events import Events
from taskflow.ports.store import Files, Segment

PERIOD: Final = 1.0
INDEXED: Final = PERIOD + 0.75
"""Seconds after which the lines of a run are indexed, where its worker and the object store are well."""
LIVE_PERIOD: Final = 0.1
SEGMENT_BYTES: Final = 4 << 20
JOB_BYTES: Final = 64 << 20
ALL_BYTES: Final = 1 << 30
MARK_BYTES: Final = 16 << 20
"""Room beyond `ALL_BYTES` and `LOOSE_BYTES` for the lines that say that lines are missing."""
LOOSE_BYTES: Final = 16 << 20
"""Memory for lines that are nowhere else, where the spool cannot be written: its disk is full, or there is none."""
LIVE_BYTES: Final = 4 << 20
"""What waits for followers; beyond it they miss lines, which the log itself has."""
RUNS_KNOWN: Final = 10_000
"""Runs whose size is remembered; the oldest is forgotten first."""
DEADLINE: Final = 60.0
LAST_WORDS: Final = 5.0
LOOK_ROUND: Final = 30.0
"""Seconds between two looks for what dead processes left."""

log = logging.getLogger("taskflow")


class LogShipper:
    """Takes lines from any thread and ships them from the main loop.

    Args:
        spool: directory for lines that are not indexed yet, shared by the processes of a host; `None` keeps them in
            memory only.

    Attributes:
        dropped: lines that were not kept since a cap was reached.
    """

    def __init__(
        self, files: Files, artifacts: Artifacts, events: Events, *, namespace: str, spool: Path | None
    ) -> None:
        self._files = files
        self._artifacts = artifacts
        self._events = events
        self._namespace = namespace
        self._spool = spool
        self._lock = threading.Lock()
        self._open: Batch | None = None
        self._sealed: deque[Batch] = deque()
        self._live: dict[Run, list[bytes]] = {}
        self._live_bytes = 0
        self._sizes: dict[Run, int] = {}
        self._cut: set[Run] = set()
        self._total = 0
        self._elsewhere = 0
        self._loose = 0
        self._room: Room | None = None
        self._looked = 0.0
        self._number = 0
        self._ended = False
        self._lines = Bell()
        self._news = Bell()
        self._full = Bell()
        self._main: asyncio.AbstractEventLoop | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._outage = Outage("object store (logs)")
        self._spool_outage = Outage("log spool")
        self.dropped = 0

    async def __aenter__(self) -> Self:
        self._main = asyncio.get_running_loop()
        if self._spool is not None:
            try:
                self._room = await asyncio.to_thread(Room, self._spool)
            except OSError as error:
                log.warning("log lines are kept in memory only: the spool %s cannot be used: %s", self._spool, error)
            else:
                await self._look_round()
        self._news.ring()
        self._loops = [asyncio.create_task(self._keep_shipping()), asyncio.create_task(self._keep_telling())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.wait(self._loops)
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self._ship()
        except Exception as lost:
            self._outage.lost(lost)
        with self._lock:
            self._ended = True
            self._seal()
        if self._room is not None:
            await asyncio.to_thread(self._room.close)

    def append(self, job_id: str, epoch: int, line: bytes) -> None:
        """Keep one NDJSON line; beyond the caps it is dropped and the log says truncated. From any thread."""
        run = (job_id, epoch)
        with self._lock:
            if self._ended:
                self.dropped += 1
                return
            if self._sizes.get(run, 0) + len(line) <= JOB_BYTES and self._room_for(len(line)):
                self._keep(run, line, cut=False)
                return
            self.dropped += 1
            if run not in self._cut and self._room_for(0, beyond=MARK_BYTES):
                mark = capture.line(epoch, "warning", "lines are missing here: the log is too large", {}, "taskflow")
                self._keep(run, mark, cut=True)
                self._cut.add(run)

    def pending(self, job_id: str) -> bool:
        """Whether lines of a job are not indexed yet."""
        with self._lock:
            open_too = self._open is not None and job_id in self._open.jobs
            return open_too or any(job_id in batch.jobs for batch in self._sealed)

    @property
    def waiting(self) -> int:
        """Bytes of this process that are not stored and indexed yet."""
        with self._lock:
            return self._total

    def _room_for(self, size: int, *, beyond: int = 0) -> bool:
        on_disk = self._total + self._elsewhere + size <= ALL_BYTES + beyond
        return on_disk and self._loose + size <= LOOSE_BYTES + beyond

    def _keep(self, run: Run, line: bytes, *, cut: bool) -> None:
        if self._open is None:
            # A number from the clock keeps the segments of a run in order also across processes.
            self._number = max(self._number + 1, time.time_ns() // 1_000_000)
            self._open = Batch(self._number, new_id(), self._room.path if self._room else None)
            self._on_main(self._lines.ring)
        before = self._open.loose
        self._open.add(run, line, cut=cut)
        self._loose += self._open.loose - before
        self._sizes[run] = self._sizes.get(run, 0) + len(line)
        if len(self._sizes) > RUNS_KNOWN:
            oldest = next(iter(self._sizes))
            self._cut.discard(oldest)
            del self._sizes[oldest]
        self._total += len(line)
        if self._live_bytes < LIVE_BYTES:
            if not self._live:
                self._on_main(self._news.ring)
            self._live.setdefault(run, []).append(line)
            self._live_bytes += len(line)
        if self._open.size >= SEGMENT_BYTES:
            self._seal()
            self._on_main(self._full.ring)

    def _seal(self) -> None:
        if self._open is not None:
            self._open.seal()
            if self._sealed:
                self._open.release()
            self._sealed.append(self._open)
            self._open = None

    def _on_main(self, call: Callable[[], None]) -> None:
        if self._main is not None and not self._main.is_closed():
            self._main.call_soon_threadsafe(call)

    async def _keep_telling(self) -> None:
        while True:
            await self._news.wait(LONGEST)
            with self._lock:
                news, self._live = self._live, {}
                self._live_bytes = 0
            for (job_id, _), lines in news.items():
                await _survive(self._events.publish(f"logs:{job_id}", b"".join(lines)))
            await asyncio.sleep(LIVE_PERIOD)

    async def _keep_shipping(self) -> None:
        while True:
            if not self._sealed and self._open is None:
                await self._lines.wait(LONGEST)
            # Batches that wait already, of a killed process or of an outage, wait no longer.
            if not self._sealed:
                await self._full.wait(PERIOD)
            try:
                await self._look_round()
                await self._ship()
            except Exception as error:
                await asyncio.sleep(self._outage.lost(error))

    async def _look_round(self) -> None:
        """What other processes of the host keep, and what dead ones left."""
        if self._room is None:
            return
        if not self._looked or time.monotonic() - self._looked > LOOK_ROUND:
            adopted = await asyncio.to_thread(self._room.adopt)
            with self._lock:
                self._sealed.extend(adopted)
                self._total += sum(batch.size for batch in adopted)
                self._number = max([self._number, *(batch.number for batch in adopted)])
            self._looked = time.monotonic()
        self._elsewhere = await asyncio.to_thread(self._room.elsewhere)

    async def _ship(self) -> None:
        """One object for all jobs, then its index. What fails stays in front, under the same name and number."""
        with self._lock:
            if not self._sealed:
                self._seal()
        while self._sealed:
            batch = self._sealed[0]
            if batch.broken is not None:
                self._spool_outage.lost(batch.broken)
            else:
                self._spool_outage.back()
            async with asyncio.timeout(DEADLINE):
                await self._ship_one(batch)
            self._outage.back()
            with self._lock:
                self._sealed.popleft()
                self._total -= batch.size
                self._loose -= batch.loose
            batch.drop()

    async def _ship_one(self, batch: Batch) -> None:
        try:
            texts = await asyncio.to_thread(batch.texts)
        except FileNotFoundError as error:
            log.error("log lines of %d jobs are lost: %s", len(batch.jobs), error)  # noqa: TRY400 - says it all
            return
        day = datetime.fromtimestamp(batch.number / 1_000, UTC)
        key = f"{self._namespace}/logs/{day:%Y/%m/%d}/{batch.name}.ndjson"
        segments, offset = [], 0
        for (job_id, epoch), (text, cut) in texts.items():
            segments.append(
                Segment(
                    job_id=job_id,
                    epoch=epoch,
                    seq=batch.number,
                    object=key,
                    offset=offset,
                    length=len(text),
                    truncated=cut,
                )
            )
            offset += len(text)
        if not segments:
            return
        await self._artifacts.put(key, b"".join(text for text, _ in texts.values()))
        try:
            await self._files.add_segments(segments)
        except DataRejected:
            for segment in segments:
                await self._index_alone(segment)

    async def _index_alone(self, segment: Segment) -> None:
        """Nothing would ever pass behind a batch that is refused for good."""
        try:
            await self._files.add_segments([segment])
        except DataRejected as error:
            log.error("log lines of job %r are lost: %s", segment.job_id, error)  # noqa: TRY400 - says it all


async def _survive(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.debug("followers of a log were not told", exc_info=True)
