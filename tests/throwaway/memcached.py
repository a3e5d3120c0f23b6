"""A memcached of the tests' own."""

from __future__ import annotations

import os
import socket

from tests.throwaway.server import ThrowawayServer, free_ports


class ThrowawayMemcached(ThrowawayServer):
    """Keeps nothing over a restart, as a cache does."""

    binary = "memcached"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_ports(1)[0]

    @property
    def url(self) -> str:
        return f"memcached://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        user = ("-u", "nobody") if os.getuid() == 0 else ()
        return [self.executable(), "-l", "127.0.0.1", "-p", str(self.port), *user]

    def answers(self) -> bool:
        return self._ask("version").startswith(b"VERSION")

    def hits(self) -> int:
        """Values that were asked for and found."""
        [line] = [line for line in self._ask("stats").splitlines() if line.startswith(b"STAT get_hits ")]
        return int(line.rsplit(b" ", 1)[1])

    def _ask(self, command: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(command.encode() + b"\r\n")
            answer = b""
            while not answer.endswith(b"\r\n") or (command == "stats" and not answer.endswith(b"END\r\n")):
                piece = connection.recv(65_536)
                if not piece:
                    break
                answer += piece
            return answer
