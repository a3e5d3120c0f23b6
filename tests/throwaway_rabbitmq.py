"""A RabbitMQ of a test's own, from the installed binaries: it may be stopped, filled and starved."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import aiormq
from aiormq.exceptions import AMQPError

from taskflow.testing.facts import until

SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL: Final = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
USER: Final = "rabbitmq"
STARTING: Final = 90.0


def missing() -> str:
    """Why there can be none here; empty where there can."""
    if not SERVER.exists():
        return "no RabbitMQ is installed"
    return "" if os.geteuid() == 0 and shutil.which("setpriv") else "only root can start RabbitMQ as its own user"


class ThrowawayRabbit:
    """One node on ports of its own, in a directory of its own. `start` and `stop` as often as a test likes."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="rabbit-"))
        self._node = f"throwaway{os.getpid()}{self._root.name[-4:]}@localhost"
        self.port, self._distribution = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        shutil.chown(self._root, USER, USER)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        (self._root / "rabbitmq.conf").write_text(f"listeners.tcp.default = 127.0.0.1:{self.port}\n")
        self._spawn()
        await until(self._answers, STARTING)

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            self._as_user(str(SERVER)),
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def stop(self) -> None:
        """Kill it, as a power cut does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)
            self._process = None

    async def control(self, *words: str) -> None:
        """Run `rabbitmqctl`."""
        command = self._as_user(str(CONTROL), "-n", self._node, *words)
        await asyncio.to_thread(
            subprocess.run, command, env=self._environment(), check=True, capture_output=True, timeout=60
        )

    async def settle(self) -> None:
        """Make it write down what it knows of new queues: a node killed before leaves them without a leader for good."""
        await self.control("eval", "[dets:sync(T) || T <- dets:all()].")

    async def hush(self, queue: str, silent: bool = True) -> None:
        """Stop the process behind a quorum queue, or let it go on: the node answers, the queue does not."""
        what = "suspend" if silent else "resume"
        await self.control("eval", f'sys:{what}(list_to_atom("%2F_{queue}")).')

    async def remove(self) -> None:
        """Stop it and delete its directory."""
        await self.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    async def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"RabbitMQ ended with {self._process.returncode} while it started")
        try:
            async with asyncio.timeout(5):
                connection = await aiormq.connect(self.url)
                await connection.close()
        except (OSError, AMQPError, TimeoutError):
            return False
        return True

    def _as_user(self, *command: str) -> list[str]:
        return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]

    def _environment(self) -> dict[str, str]:
        root = str(self._root)
        return {
            "PATH": os.environ["PATH"],
            "HOME": root,
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": f"{root}/mnesia",
            "RABBITMQ_LOG_BASE": f"{root}/log",
            "RABBITMQ_PID_FILE": f"{root}/pid",
            "RABBITMQ_CONFIG_FILE": f"{root}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{root}/plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
