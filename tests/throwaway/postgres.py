"""A PostgreSQL of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

from tests.throwaway.server import CannotStart, ThrowawayServer, free_ports


class ThrowawayPostgres(ThrowawayServer):
    """Trusts everybody on the loopback; `root` owns the database `test`. Data stay over a restart.

    Args:
        settings: further settings, such as `max_connections=10`.
    """

    binary = "postgres"

    def __init__(self, *settings: str) -> None:
        super().__init__()
        self.port = free_ports(1)[0]
        self._settings = settings

    @property
    def url(self) -> str:
        return f"postgresql://root@127.0.0.1:{self.port}/test"

    def user(self) -> str | None:
        """It refuses to run as root."""
        if os.getuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name).pw_name
            except KeyError:
                continue
        raise CannotStart("PostgreSQL does not run as root, and there is no user postgres or nobody")

    def executable(self, name: str | None = None) -> str:
        """Where distributions put it, if it is not on the path."""
        found = shutil.which(name or self.binary)
        others = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name or self.binary}"))
        return found or (str(others[-1]) if others else super().executable(name))

    def prepare(self) -> None:
        if user := self.user():
            shutil.chown(self.directory, user)
        self._run("initdb", "-D", "data", "-U", "root", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        script = self.directory / "test.sql"
        script.write_text("CREATE DATABASE test;\n")
        # The server itself makes the database, before it listens anywhere.
        with script.open("rb") as statements:
            self._run("postgres", "--single", "-D", "data", "postgres", stdin=statements)

    def command(self) -> list[str]:
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.directory}"]
        options += [f"fsync={os.environ.get('TASKFLOW_TEST_FSYNC', 'off')}", *self._settings]
        pairs = [part for option in options for part in ("-c", option)]
        return [self.executable(), "-D", "data", *pairs]

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("PG")}

    def answers(self) -> bool:
        # It listens before it has recovered, and turns everybody away: it is there when it lets somebody in.
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            start = b"\0\3\0\0user\0root\0database\0postgres\0\0"
            connection.sendall((len(start) + 4).to_bytes(4, "big") + start)
            return connection.recv(1) == b"R"

    def _run(self, name: str, *arguments: str, stdin: object = subprocess.DEVNULL) -> None:
        done = subprocess.run(
            [self.executable(name), *arguments],
            cwd=self.directory,
            env=self.environment(),
            user=self.user(),
            stdin=stdin,  # type: ignore[call-overload]
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise CannotStart(f"{name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
