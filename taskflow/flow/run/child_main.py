"""The child's side: runs one handler at a time, and dies with its worker and with its worker's lease."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import importlib
import inspect
import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, BinaryIO, Final

import uvloop

from taskflow.core.errors import NotFound
from taskflow.core.job import Claim
from taskflow.flow import capture
from taskflow.flow.run import forked, wire
from taskflow.flow.run.call import call_async, call_sync
from taskflow.flow.run.leftovers import Leftovers
from taskflow.flow.run.loop import opened
from taskflow.flow.run.run import context_of
from taskflow.tasks import jsontext
from taskflow.tasks.ending import to_wire
from taskflow.tasks.registry import Registry

PR_SET_PDEATHSIG: Final = 1
CHECK: Final = 0.25
MESSAGE: Final = 1_000
"""Characters of a progress message."""


class Parent:
    """The pipes to the worker, used by any thread of the child."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()
        self._replies: dict[int, Future[bytes]] = {}
        self._numbers = itertools.count(1)
        self._run: list[Any] | None = None
        self._generation = forked.generation
        self._deadline: float | None = None
        self._switch = threading.Lock()
        self.cancelled = threading.Event()
        self.claims: asyncio.Queue[Claim] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def ready(self) -> None:
        """Tell that runs may come."""
        self._write(wire.pack({"kind": "ready"}))

    def begin(self, run: list[Any]) -> None:
        """From here on messages are those of this run."""
        self._run = run
        self.send(run, {"kind": "begin"})

    def end(self, run: list[Any], message: dict[str, Any]) -> None:
        """Send the run's last message. Nothing runs any more: no lease is needed."""
        with self._switch:
            self._deadline = None
        with self._lock:
            self._run = None
            self._write(wire.pack(message | {"kind": "end", "run": run}))

    def send(self, run: list[Any], message: dict[str, Any]) -> bool:
        """Send a message of a run.

        Returns:
            Whether it was sent: not if the run is over, and not by a copy of the process that it runs in.
        """
        if self.copied:
            return False
        data = wire.pack(message | {"run": run})
        with self._lock:
            if self._run is not run:
                return False
            self._write(data)
        return True

    def ask(self, run: list[Any], message: dict[str, Any]) -> Future[bytes]:
        """Send a question; the future ends with its answer."""
        number = next(self._numbers)
        future = self._replies[number] = Future()
        if not self.send(run, message | {"ask": number}):
            del self._replies[number]
            future.set_exception(RuntimeError("a file can be used only during the run, by the process that it runs in"))
        return future

    @property
    def copied(self) -> bool:
        """Whether this is a copy of the process that a handler forked."""
        return self._generation != forked.generation

    def running(self, run: list[Any]) -> bool:
        """Whether this run is in progress."""
        return self._run is run

    def _write(self, data: bytes) -> None:
        self._outgoing.write(data)
        self._outgoing.flush()

    def _listen(self) -> None:
        while (message := wire.read(self._incoming)) is not None:
            match message["kind"]:
                case "run":
                    self.cancelled.clear()
                    with self._switch:
                        self._deadline = _boot_seconds() + message["lease"]
                    self._loop.call_soon_threadsafe(self.claims.put_nowait, wire.claim_in(message["claim"]))
                case "cancel":
                    self.cancelled.set()
                case "beat":
                    with self._switch:
                        if self._deadline is not None:
                            self._deadline = _boot_seconds() + message["lease"]
                case "reply":
                    future = self._replies.pop(message["ask"])
                    if "error" in message:
                        error = NotFound if message["missing"] else RuntimeError
                        future.set_exception(error(message["error"]))
                    else:
                        future.set_result(base64.b64decode(message["data"]))
        os.killpg(0, signal.SIGKILL)

    def _watch(self) -> None:
        """The dead man's switch: no beat was accepted for a lease, so somebody else may run this job now."""
        while True:
            time.sleep(CHECK)
            deadline = self._deadline
            if deadline is not None and _boot_seconds() > deadline:
                os.killpg(0, signal.SIGKILL)


class ChildEffects:
    """A run's effects, sent to the worker."""

    def __init__(self, parent: Parent, claim: Claim) -> None:
        self._parent = parent
        self._epoch = claim.epoch
        self.run = wire.run_of(claim)

    def emit_log(self, level: str, message: str, fields: Mapping[str, Any], source: str = "ctx.log") -> None:
        """Send a line."""
        if self._parent.copied:
            capture.raw(level, message, fields, source)
            return
        line = capture.line(self._epoch, level, message, fields, source)
        self._parent.send(self.run, {"kind": "line", "line": line.decode()})

    def set_progress(self, fraction: float, message: str | None) -> None:
        """Send progress."""
        text = None if message is None else jsontext.escaped(str(message))[:MESSAGE]
        self._parent.send(self.run, {"kind": "progress", "fraction": fraction, "message": text})

    async def put_artifact(self, name: str, data: bytes, content_type: str) -> None:
        """Send a file."""
        await asyncio.wrap_future(self._put(name, data, content_type))

    async def get_artifact(self, name: str) -> bytes:
        """Ask for a file."""
        return await asyncio.wrap_future(self._parent.ask(self.run, {"kind": "get", "name": name}))

    def put_artifact_sync(self, name: str, data: bytes, content_type: str) -> None:
        """Send a file."""
        self._put(name, data, content_type).result()

    def get_artifact_sync(self, name: str) -> bytes:
        """Ask for a file."""
        return self._parent.ask(self.run, {"kind": "get", "name": name}).result()

    def is_cancelled(self) -> bool:
        """Whether the worker wants this run to end."""
        return self._parent.cancelled.is_set() or not self._parent.running(self.run)

    def _put(self, name: str, data: bytes, content_type: str) -> Future[bytes]:
        text = base64.b64encode(data).decode()
        return self._parent.ask(self.run, {"kind": "put", "name": name, "content_type": content_type, "data": text})


async def serve(registry: Registry, incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Run what comes, one at a time, for ever."""
    parent, errors, leftovers = Parent(incoming, outgoing), _file(2), Leftovers()
    async with opened(registry.lifespans) as resources:
        parent.ready()
        while True:
            claim = await parent.claims.get()
            task = registry.get(claim.task)
            effects = ChildEffects(parent, claim)
            leftovers.begin()
            parent.begin(effects.run)
            capture.current.set(effects.emit_log)
            _limit_memory(task.memory)
            context = partial(context_of, claim, effects, resources)
            if inspect.iscoroutinefunction(task.function):
                ending = await call_async(task, claim.payload, context)
            else:
                ending = call_sync(task, claim.payload, context)
            capture.flush_parts()
            capture.current.set(None)
            # A handler that put something else in the place of standard error has worn this process out.
            marked = _file(2) == errors
            if marked:
                os.write(2, wire.DONE)
            fresh = marked and not leftovers.are_there()
            parent.end(effects.run, {"ending": to_wire(ending), "marked": marked, "fresh": fresh})


def main() -> None:
    """`python -m taskflow.flow.run.child_main PARENT LEVEL MODULE...`."""
    parent, level, *modules = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Neither what C code prints nor what a handler's own children read may touch the messages.
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    capture.install()
    logging.getLogger().setLevel(int(level))
    registry = Registry.load(modules)
    with contextlib.suppress(BrokenPipeError), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(registry, incoming, outgoing))


forked.guard(main.__code__, call_sync.__code__)


def _file(descriptor: int) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = os.fstat(descriptor)
        return found.st_dev, found.st_ino
    return None


def _limit_memory(limit: int | None) -> None:
    if limit is not None:
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _boot_seconds() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


if __name__ == "__main__":
    main()
