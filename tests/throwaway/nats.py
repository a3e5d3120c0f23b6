"""A NATS of the tests' own."""

from __future__ import annotations

import socket

from tests.throwaway.server import ThrowawayServer, free_ports


class ThrowawayNats(ThrowawayServer):
    """With JetStream, which keeps what it has over a restart.

    Args:
        more: further options of the server, such as `--auth x`.
    """

    binary = "nats-server"

    def __init__(self, *more: str) -> None:
        super().__init__()
        self.port = free_ports(1)[0]
        self._more = more

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            self.executable(),
            *("--addr", "127.0.0.1", "--port", str(self.port), "--jetstream", "--store_dir", str(self.directory)),
            *self._more,
        ]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            return connection.recv(65_536).startswith(b"INFO")
