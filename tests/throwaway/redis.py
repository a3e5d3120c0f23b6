"""A Redis of the tests' own."""

from __future__ import annotations

import socket

from tests.throwaway.server import ThrowawayServer, free_ports


class ThrowawayRedis(ThrowawayServer):
    """Keeps nothing over a restart, as a cache does.

    Args:
        more: further options of the server, such as `--requirepass x`.
    """

    binary = "redis-server"

    def __init__(self, *more: str) -> None:
        super().__init__()
        self.port = free_ports(1)[0]
        self._more = more

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [
            self.executable(),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "no", *self._more),
        ]

    def answers(self) -> bool:
        return self.ask("PING")[:1] in {b"+", b"-"}

    def ask(self, *words: str) -> bytes:
        """One command on a connection of its own, and the first piece of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(65_536)
