"""A RabbitMQ of the tests' own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import anyio.to_thread

from tests.support import until_sync
from tests.throwaway.server import ThrowawayServer, free_ports

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Distributions wrap the scripts, to run them as another user."""
GREETING = b"AMQP\0\0\x09\x01"


class ThrowawayRabbitMQ(ThrowawayServer):
    """Knows guest/guest on the loopback. Durable things stay over a restart.

    Attributes:
        node: the name of its Erlang node, for `ctl`.
    """

    binary = "rabbitmq-server"
    starting = 90.0

    def __init__(self) -> None:
        super().__init__()
        self.port, self._epmd, self._dist = free_ports(3)
        self.node = f"taskflow{self.port}@localhost"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def executable(self, name: str | None = None) -> str:
        plain = SCRIPTS / (name or self.binary)
        return str(plain) if plain.exists() else super().executable(name)

    def prepare(self) -> None:
        (self.directory / "enabled_plugins").write_text("[].\n")
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 1MB\n"
        )

    def environment(self) -> dict[str, str]:
        places = {
            "HOME": ".",
            "RABBITMQ_MNESIA_BASE": "mnesia",
            "RABBITMQ_LOG_BASE": "log",
            "RABBITMQ_PID_FILE": "pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
            "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
        }
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        return {
            **plain,
            **{name: str(self.directory / place) for name, place in places.items()},
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def command(self) -> list[str]:
        return [self.executable()]

    def answers(self) -> bool:
        # A port that is open is not a broker that has started: it greets when it has.
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(GREETING)
            return connection.recv(1) == b"\x01"

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` says."""
        done = subprocess.run(
            [self.executable("rabbitmqctl"), "-n", self.node, *arguments],
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    async def ctl_beside(self, *arguments: str) -> str:
        """`ctl`, while the loop goes on."""
        return await anyio.to_thread.run_sync(self.ctl, *arguments)

    async def settle(self) -> None:
        """Make it write down what it knows of new queues: a node killed before leaves them without a leader for good."""
        await self.ctl_beside("eval", "[dets:sync(T) || T <- dets:all()].")

    async def hush(self, queue: str, silent: bool = True) -> None:
        """Stop the process behind a quorum queue, or let it go on: the node answers, the queue does not."""
        what = "suspend" if silent else "resume"
        await self.ctl_beside("eval", f'sys:{what}(list_to_atom("%2F_{queue}")).')

    def close(self) -> None:
        self.kill()
        # Its port mapper is a daemon of its own, on a port that nobody else uses. It lets itself be killed when it
        # has noticed that the node is gone.
        if self._started:
            try:
                until_sync(self._unmapped, within=10)
            except AssertionError:
                pass
        super().close()

    def _unmapped(self) -> bool:
        done = subprocess.run(
            [shutil.which("epmd") or "epmd", "-port", str(self._epmd), "-kill"],
            env={**os.environ, "ERL_EPMD_ADDRESS": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=10,
        )
        return "Killed" in done.stdout or "Cannot connect" in done.stdout + done.stderr
