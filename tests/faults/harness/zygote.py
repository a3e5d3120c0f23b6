"""Processes of TaskFlow that are forked from one which has imported all they need: a start costs a tenth of what it does
else, and a test that kills hundreds starts hundreds.

Run as a module it is that process. It reads requests from its standard input, one JSON document a line, answers each with
the pid, and tells the end of every child. A child is a process like any other: a session, an environment and an output of
its own, and the command line's `main`.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import runpy
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

ADAPTERS: Final = (
    *("store:postgresql", "store:sqlite", "broker:amqp", "broker:memory", "cache:redis", "cache:memory"),
    *("events:redis", "events:memory", "artifacts:s3", "artifacts:file", "limiter:redis", "limiter:memory"),
)
SET_PDEATHSIG: Final = 1


class Zygote:
    """The harness's side of it."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.harness.zygote"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._pids: queue.Queue[int] = queue.Queue()
        self._codes: dict[int, int] = {}
        self._ended = threading.Condition()
        self._asking = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="zygote")
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(self, arguments: Sequence[str], directory: Path, environment: Mapping[str, str]) -> int:
        """Start `taskflow` with arguments, or a module with them (`-m`), as Python does; the pid. What it says goes to
        `output` in its directory."""
        request = {"arguments": list(arguments), "directory": str(directory), "environment": dict(environment)}
        assert self._process.stdin is not None
        with self._asking:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return self._pids.get(timeout=60)

    def code(self, pid: int) -> int | None:
        """The exit code of a process that has ended, negative where a signal ended it."""
        return self._codes.get(pid)

    def wait(self, pid: int, seconds: float = 40) -> int:
        """Until it has ended."""
        with self._ended:
            if not self._ended.wait_for(lambda: pid in self._codes, seconds):
                raise AssertionError(f"process {pid} has not ended within {seconds} s")
            return self._codes[pid]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "code" not in told:
                # A number may come again, long after its first bearer has ended.
                self._codes.pop(told["pid"], None)
                self._pids.put(told["pid"])
                continue
            with self._ended:
                self._codes[told["pid"]] = told["code"]
                self._ended.notify_all()


def _prepare() -> None:
    import taskflow.wiring.runtime  # noqa: F401, PLC0415 - the point of it all
    from taskflow.cli import app  # noqa: F401, PLC0415
    from taskflow.testing import failpoints  # noqa: F401, PLC0415
    from taskflow.wiring import plugins  # noqa: PLC0415

    for adapter in ADAPTERS:
        plugins.load(*adapter.split(":"))


def _serve() -> dict[str, Any] | None:
    """Fork as asked; returns the request in the child, and `None` at the end of the requests."""
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    read = b""
    while True:
        ready, _, _ = select.select([0, awake], [], [])
        if awake in ready:
            os.read(awake, 4_096)
            _reap()
        if 0 not in ready:
            continue
        piece = os.read(0, 1 << 20)
        if not piece:
            return None
        *lines, read = (read + piece).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                os.close(awake)
                os.close(wake)
                request: dict[str, Any] = json.loads(line)
                return request
            _say({"pid": pid})


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(what: object) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _become(request: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL)
    os.chdir(request["directory"])
    output = os.open("output", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = [path for path in request["environment"].get("PYTHONPATH", "").split(os.pathsep) if path]
    arguments = request["arguments"]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = ["taskflow", *arguments]
    from taskflow.cli import main  # noqa: PLC0415 - imported long ago

    main()


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL)
    _prepare()
    if (asked := _serve()) is not None:
        _become(asked)
