"""The benchmark runs, and counts only what was really done."""

from __future__ import annotations

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.load import pace, post, send

ROOT = Path(__file__).parents[2]
ANSWERS = {
    "accepted": b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}",
    "refused": b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy",
    "cut": b"HTTP/1.1 202 Accepted\r\ncontent-length: 200\r\n\r\n{",
}


class Server(socketserver.ThreadingTCPServer):
    """Answers each request alike, byte by byte."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.answer = b""
        self.requests = 0
        self.port = int(self.server_address[1])
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()


class Connection(socketserver.StreamRequestHandler):
    """One of them; a cut answer is the last."""

    server: Server

    def handle(self) -> None:
        """Until the other side hangs up."""
        server = self.server
        with suppress(ConnectionError):
            while length := self._length():
                self.rfile.read(length)
                server.requests += 1
                for at in range(len(server.answer)):
                    self.wfile.write(server.answer[at : at + 1])
                if server.answer == ANSWERS["cut"]:
                    return

    def _length(self) -> int:
        """Of a request whose head has come; 0 at the end."""
        found = 0
        while line := self.rfile.readline().lower().strip():
            if line.startswith(b"content-length:"):
                found = int(line.partition(b":")[2])
        return found


@pytest.fixture
def server() -> Iterator[Server]:
    """One that listens."""
    made = Server()
    yield made
    made.close()


def test_every_request_is_answered_once(server: Server) -> None:
    """However the bytes of the answers come."""
    server.answer = ANSWERS["accepted"]
    assert send(server.port, post("/jobs", b'{"task":"x"}'), 25, accept=202, connections=4) > 0
    assert server.requests == 25


@pytest.mark.parametrize(("answer", "why"), [("refused", "503 Busy: busy"), ("cut", "closed a connection")])
def test_what_was_not_accepted_is_no_figure(server: Server, answer: str, why: str) -> None:
    """A system that refuses quickly is not fast."""
    server.answer = ANSWERS[answer]
    with pytest.raises(RuntimeError, match=why):
        send(server.port, post("/jobs", b"{}"), 5, accept=202, connections=2)


def test_requests_leave_on_time_and_are_answered_once(server: Server) -> None:
    """On as many connections as are busy."""
    server.answer = ANSWERS["accepted"]
    pace(server.port, lambda: post("/jobs", b"{}"), 500, 0.1, accept=202)
    assert server.requests == 50


@pytest.mark.parametrize(("answer", "why"), [("refused", "503 Busy: busy"), ("cut", "closed a connection")])
def test_what_was_not_accepted_has_no_latency(server: Server, answer: str, why: str) -> None:
    """Whoever is refused waits for nothing."""
    server.answer = ANSWERS[answer]
    with pytest.raises(RuntimeError, match=why):
        pace(server.port, lambda: post("/jobs", b"{}"), 500, 0.02, accept=202)


def test_it_prints_a_table() -> None:
    """The embedded mode, with few jobs."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--suite", "macro", "--only", "embedded", "--jobs", "500", "--rounds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    [figures] = [line for line in done.stdout.splitlines() if line.startswith("TaskFlow, embedded")]
    assert all(float(figure.replace(",", "")) > 0 for figure in figures.removeprefix("TaskFlow, embedded").split())
