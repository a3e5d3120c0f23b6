"""A server process in a temporary directory, on ports of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, Self, TypeVar

import anyio
import anyio.to_thread
import pytest

from tests.support import until_sync

LOWEST: Final = 10_000
_chance: Final = random.SystemRandom()  # the other one is set by whoever wants his tests to be repeated


class CannotStart(Exception):
    """The server is not installed, or does not start here; says why."""


class ThrowawayServer(ABC):
    """Starts on entering, and is gone with its directory on leaving. In between a test may stop, kill, pause and start it:
    address and data stay.

    Raises:
        CannotStart: from entering and from `start`.
    """

    binary: ClassVar[str]
    starting: ClassVar[float] = 20.0
    """Seconds that a start may take."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.directory = Path()
        self._started = False

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def command(self) -> list[str]:
        """What runs in the foreground; `self.directory` is its own."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it can be used now; an `OSError` is a no."""

    def prepare(self) -> None:  # noqa: B027 - not every server needs it
        """Once, before the first start."""

    def environment(self) -> dict[str, str]:
        """What it finds in its environment."""
        return dict(os.environ)

    def user(self) -> str | None:
        """Who it runs as; `None`: as the tests do."""
        return None

    def __enter__(self) -> Self:
        self.executable()
        self.directory = Path(tempfile.mkdtemp(prefix=f"taskflow-{self.binary}-"))
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def executable(self, name: str | None = None) -> str:
        """The path of a program."""
        # Debian keeps servers where only root looks.
        found = shutil.which(name or self.binary, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if found is None:
            raise CannotStart(f"{name or self.binary} is not installed")
        return found

    def start(self) -> None:
        """Start, and return when it answers."""
        self._spawn()
        self._wait()

    async def start_beside(self) -> None:
        """`start`, while the loop goes on."""
        # It is made in the thread of the loop: it would die with that of a worker.
        self._spawn()
        await anyio.to_thread.run_sync(self._wait)

    def _spawn(self) -> None:
        assert self.process is None
        self._started = True
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [*_dies_with_us(), *self.command()],
                cwd=self.directory,
                env=self.environment(),
                user=self.user(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _wait(self) -> None:
        assert self.process is not None
        try:
            until_sync(self._settled, within=self.starting)
        except AssertionError:
            raise CannotStart(f"{self.binary} did not answer within {self.starting:g} s: {self._last()}") from None
        if self.process.poll() is not None:
            raise CannotStart(f"{self.binary} ended with {self.process.returncode}: {self._last()}")

    def stop(self) -> None:
        """End it in its own way, and by force if that takes too long."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It keeps its connections and answers nothing, until `go_on`."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, and leave nothing behind."""
        self.kill()
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def _settled(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            return True
        try:
            return self.answers()
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass
        try:
            # Some servers are started by a script, and would outlive it.
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process = None

    def _last(self) -> str:
        lines = (self.directory / "output").read_text(errors="replace").splitlines()
        return " | ".join(lines[-5:])


S = TypeVar("S", bound=ThrowawayServer)


@contextmanager
def own(server: S) -> Iterator[S]:
    """A server for one test, which is skipped where there can be none."""
    with ExitStack() as stack:
        try:
            stack.enter_context(server)
        except CannotStart as error:
            pytest.skip(str(error))
        yield server


def free_ports(count: int, below: int = 65_536) -> list[int]:
    """Ports that nobody listens on now, all below a bound, and none that the kernel gives to outgoing connections: one of those
    may be somebody's by the time that it is listened on."""
    outgoing = _outgoing()
    ports = [port for port in range(LOWEST, below) if port not in outgoing]
    if len(ports) < 10 * count:
        ports = list(range(LOWEST, below))  # the kernel gives all of them: there is no better choice
    _chance.shuffle(ports)
    with ExitStack() as stack:
        free: list[int] = []
        while len(free) < count:
            listening = stack.enter_context(socket.socket())
            with suppress(OSError):
                listening.bind(("127.0.0.1", ports[-1]))
                free.append(ports[-1])
            ports.pop()
        return free


def _outgoing() -> range:
    """Ports that the kernel chooses from for connections."""
    try:
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except OSError:
        first, last = 32_768, 60_999
    return range(first, last + 1)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _dies_with_us() -> list[str]:
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL", "--"] if found else []
