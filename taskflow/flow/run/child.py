"""One child process, seen from its worker."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from taskflow.core.errors import NotFound, TaskFlowError
from taskflow.core.job import ErrorInfo, Outcome
from taskflow.core.lifecycle import Ending
from taskflow.core.limits import LOG_LINE_BYTES
from taskflow.flow.run import wire
from taskflow.flow.run.run import Run
from taskflow.flow.run.stop import StopReason
from taskflow.tasks.ending import from_wire

WORDS: Final = 500
"""Characters of what a child that does not start said last."""
LAST_WORDS: Final = 2.0
"""Seconds that a cancelled child gets to end by itself."""
STARTING: Final = 60.0
"""Seconds that a new child gets to import its modules and to open their lifespans."""
REAPING: Final = 3.0
DRAINING: Final = 1.0
STREAM: Final = 1 << 20
LINE: Final = 2 * LOG_LINE_BYTES
"""Enough of an endless line for what keeps lines to see that it is too long, and to mark it as cut."""

log = logging.getLogger("taskflow")


class NotStarted(TaskFlowError):
    """A child did not begin to run a handler."""


class Child:
    """One child process, and what is heard from it."""

    def __init__(self, process: Process, gone: Callable[[int], None]) -> None:
        self.process = process
        self._gone = gone
        self.usable = True
        self._reaped = False
        self._current: Run | None = None
        self._last_words = ""
        self._drained = asyncio.Event()
        self._errors = asyncio.create_task(self._read_errors())

    @property
    def lives(self) -> bool:
        """Whether it is there as far as one can know."""
        assert self.process.stdout is not None
        return self.process.returncode is None and not self.process.stdout.at_eof()

    async def ready(self) -> None:
        """Until it can run handlers.

        Raises:
            NotStarted: it cannot.
        """
        why = ""
        try:
            async with asyncio.timeout(STARTING):
                while (await self._next())["kind"] != "ready":
                    pass
            return
        except TimeoutError:
            why = f"was not ready within {STARTING:.0f} s"
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        await self.reap()
        raise NotStarted(f"a child process {why or ended(self.process.returncode)}: {self._last_words}")

    async def run(self, run: Run, lease: float) -> Ending:
        """Run a handler in it.

        Raises:
            NotStarted: the child ended before the handler was called, or is still at another run.
        """
        self._current = run
        self._drained.clear()
        if run.is_cancelled():
            self.kill()
        self.tell({"kind": "run", "claim": wire.claim_out(run.claim), "lease": lease})
        begun, mine = False, wire.run_of(run.claim)
        try:
            while True:
                message = await self._next()
                kind = message["kind"]
                if message.get("run") != mine:
                    # Of a run that is over: dropped; but one that ends twice goes on beside this one.
                    if kind == "end":
                        self._current = None
                        raise NotStarted("a child process ended a run that it does not have")
                    continue
                begun = begun or kind == "begin"
                if kind == "end":
                    self.usable = self.usable and message["fresh"]
                    if message["marked"]:
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(DRAINING):
                                await self._drained.wait()
                    self._current = None
                    return from_wire(message["ending"])
                await self._hear(run, message)
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.reap()
            if not begun:
                raise NotStarted(f"a child process {ended(self.process.returncode)}") from None
            return died(run, self.process.returncode)

    async def _next(self) -> dict[str, Any]:
        stdout = self.process.stdout
        assert stdout is not None
        size = int.from_bytes(await stdout.readexactly(wire.HEAD), "big")
        if size > wire.LONGEST:
            raise ValueError(f"the child sent a message of {size:,} bytes")
        return wire.unpack(await stdout.readexactly(size))

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
        if self._reaped:
            return
        self._reaped = True
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
            case "begin":
                run.begin()
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
                self._last_words = text[:WORDS]
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
    outcome = Outcome.CRASHED if run.claim.isolated else Outcome.FAILED
    return Ending(outcome=outcome, error=ErrorInfo("ProcessDied", f"the child process {ended(status)}"))


def ended(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "cannot be ended"
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name} ({-status})"
    except ValueError:
        return f"was killed by signal {-status}"
