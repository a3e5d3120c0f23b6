"""Child processes: for handlers that must be killable, and for jobs that crashed their workers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from taskflow.core.errors import NotFound
from taskflow.core.job import ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending
from taskflow.core.limits import LOG_LINE_BYTES
from taskflow.flow.run import wire
from taskflow.flow.run.guard import Guard
from taskflow.flow.run.run import Run
from taskflow.flow.run.stop import StopReason
from taskflow.tasks.ending import from_wire

LAST_WORDS: Final = 2.0
"""Seconds that a cancelled child gets to end by itself."""
REAPING: Final = 3.0
DRAINING: Final = 1.0
STREAM: Final = 1 << 20
LINE: Final = 2 * LOG_LINE_BYTES
"""Enough of an endless line for what keeps lines to see that it is too long, and to mark it as cut."""

log = logging.getLogger("taskflow")


class Children:
    """A pool of children; idle ones are used again, killed ones are not.

    Args:
        modules: what a child imports to find the handlers.
        lease: seconds that a child outlives the last accepted beat.
    """

    def __init__(self, modules: Sequence[str], lease: float) -> None:
        self._modules = list(modules)
        self._lease = lease
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._guard = Guard()

    def start(self, run: Run) -> None:
        """Run in a child, idle or new."""
        task = asyncio.get_running_loop().create_task(self._run(run))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def beat_accepted(self, lease: float) -> None:
        """Re-arm every busy child's dead man's switch."""
        for child in self._busy:
            child.tell({"kind": "beat", "lease": lease})

    async def close(self) -> None:
        """Kill every child."""
        self._closed = True
        for child in self._busy:
            child.kill()
        if self._running:
            await asyncio.wait(list(self._running), timeout=5)
        while self._idle:
            await self._idle.pop().reap()
        await self._guard.close()

    async def _run(self, run: Run) -> None:
        child: _Child | None = None
        try:
            child = await self._child(run)
            self._busy.add(child)
            run.stopping = lambda: child.stop(run)
            ending = await child.run(run, self._lease)
        except Exception as error:
            log.exception("a child process could not run a job")
            ending = Ending(outcome=Outcome.FAILED, error=ErrorInfo("ChildProcess", f"the child failed: {error!r}"))
            if child is not None:
                child.kill()
        if child is not None:
            self._busy.discard(child)
            # A limit on memory cannot be taken back: such a child serves one run.
            if child.usable and run.task.memory is None and not self._closed:
                self._idle.append(child)
            else:
                await child.reap()
        run.end(ending)

    async def _child(self, run: Run) -> _Child:
        while self._idle and run.task.memory is None:
            child = self._idle.pop()
            if child.usable and child.lives:
                return child
            await child.reap()
        return await self._spawn()

    async def _spawn(self) -> _Child:
        await self._guard.ready()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "taskflow.flow.run.child_main",
            str(os.getpid()),
            str(min(logging.getLogger().level or logging.INFO, logging.INFO)),
            *self._modules,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
            limit=STREAM,
        )
        self._guard.watch(process.pid)
        child = _Child(process, self._guard.forget)
        if self._closed:
            child.kill()
        return child


class _Child:
    def __init__(self, process: Process, gone: Callable[[int], None]) -> None:
        self.process = process
        self._gone = gone
        self.usable = True
        self._current: Run | None = None
        self._drained = asyncio.Event()
        self._errors = asyncio.create_task(self._read_errors())

    @property
    def lives(self) -> bool:
        """Whether it is there as far as one can know."""
        assert self.process.stdout is not None
        return self.process.returncode is None and not self.process.stdout.at_eof()

    async def run(self, run: Run, lease: float) -> Ending:
        self._current = run
        self._drained.clear()
        if run.is_cancelled():
            self.kill()
        self.tell({"kind": "run", "claim": wire.claim_out(run.claim), "lease": lease})
        stdout = self.process.stdout
        assert stdout is not None
        try:
            while True:
                size = int.from_bytes(await stdout.readexactly(wire.HEAD), "big")
                if size > wire.LONGEST:
                    raise ValueError(f"the child sent a message of {size:,} bytes")
                message = wire.unpack(await stdout.readexactly(size))
                if message["kind"] == "end":
                    if not message["fresh"]:
                        self.usable = False
                        self._drained.set()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(DRAINING):
                            await self._drained.wait()
                    self._current = None
                    return from_wire(message["ending"])
                await self._hear(run, message)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.usable = False
            await self.reap()
            return died(run, self.process.returncode)

    def stop(self, run: Run) -> None:
        if self._current is not run:
            return
        if run.reason is StopReason.CANCELLED:
            self.tell({"kind": "cancel"})
            asyncio.get_running_loop().call_later(LAST_WORDS, self._kill_if, run)
        else:
            self.kill()

    def _kill_if(self, run: Run) -> None:
        if self._current is run:
            self.kill()

    def kill(self) -> None:
        self.usable = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def reap(self) -> None:
        """Kill it and leave nothing of it."""
        self.kill()
        try:
            async with asyncio.timeout(REAPING):
                await self.process.wait()
        except TimeoutError:
            log.warning("child %d does not end after SIGKILL", self.process.pid)
        self._gone(self.process.pid)
        await asyncio.wait([self._errors], timeout=1)
        self._errors.cancel()

    def tell(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.process.stdin.write(wire.pack(message))

    async def _hear(self, run: Run, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "line":
                run.raw_line(message["line"].encode())
            case "progress":
                run.set_progress(message["fraction"], message["message"])
            case "put" | "get":
                try:
                    if message["kind"] == "put":
                        data = base64.b64decode(message["data"])
                        await run.put_artifact(message["name"], data, message["content_type"])
                        answer: dict[str, Any] = {"data": ""}
                    else:
                        answer = {"data": base64.b64encode(await run.get_artifact(message["name"])).decode()}
                except Exception as error:
                    answer = {"error": str(error), "missing": isinstance(error, NotFound)}
                self.tell({"kind": "reply", "ask": message["ask"]} | answer)

    async def _read_errors(self) -> None:
        """What C code and dying interpreters write: lines of the run, else of the worker's own log."""
        assert self.process.stderr is not None
        async for raw in lines(self.process.stderr):
            text = raw.removesuffix(wire.DONE).decode(errors="replace").rstrip("\n")
            if self._current is not None:
                if text or not raw.endswith(wire.DONE):
                    self._current.emit_log("warning", text, {}, "stderr")
            elif text:
                log.info("child %d: %s", self.process.pid, text)
            if raw.endswith(wire.DONE):
                self._drained.set()


async def lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Lines of a stream; of one longer than its buffer the first bytes."""
    long = False
    while True:
        try:
            raw = await stream.readuntil(b"\n")
        except asyncio.LimitOverrunError as overrun:
            head = await stream.read(max(1, overrun.consumed))
            if not long:
                yield head[:LINE] + b"\n"
            long = True
            continue
        except asyncio.IncompleteReadError as end:
            if end.partial and not long:
                yield end.partial
            return
        if long:
            # The rest of the line that was cut; only the end of the run may hide in it.
            long = False
            if raw.endswith(wire.DONE):
                yield wire.DONE
            continue
        yield raw


def died(run: Run, status: int | None) -> Ending:
    """The ending of a run whose child is gone: a crash where the job is suspected of crashing workers, else a failure."""
    how = f"exited with status {status}"
    if status is None:
        how = "cannot be ended"
    elif status < 0:
        try:
            how = f"was killed by {signal.Signals(-status).name} ({-status})"
        except ValueError:
            how = f"was killed by signal {-status}"
    outcome = Outcome.CRASHED if run.claim.isolated else Outcome.FAILED
    return Ending(outcome=outcome, error=ErrorInfo("ProcessDied", f"the child process {how}"))
