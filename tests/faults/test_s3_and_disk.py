"""S3 and the disk in trouble: jobs end as ever and as soon; logs come later, or say what is missing; memory stays.

The long form (TASKFLOW_TEST_FULL=1) keeps each fault for longer, and runs in both shapes on the real servers, too.
"""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests import servers
from tests.acceptance.system import SHAPES, SHOWN, System, embedded, in_shapes
from tests.figures import Say
from tests.processes import rss
from tests.support import FULL, until_sync
from tests.throwaway.proxy import Proxy, ProxyThread, address_of, through

LASTS: Final = 60.0 if FULL else 1.5
LINES: Final = [f"line {n} of a log that is read again at the end" for n in range(20)]
SOON: Final = 2.5 + 2.5
"""Seconds that a job may take: as ever, with room for a busy machine."""
SPOOL: Final = 1 << 30


def bucket_through(proxy: ProxyThread) -> dict[str, str]:
    """Settings that lead to the bucket by the proxy."""
    bucket = servers.s3()
    return {
        "TASKFLOW_ARTIFACTS_URL": through(bucket.url, proxy),
        "TASKFLOW_ARTIFACTS_ACCESS_KEY": bucket.access_key,
        "TASKFLOW_ARTIFACTS_SECRET_KEY": bucket.secret_key,
    }


@pytest.fixture(scope="module", params=in_shapes(SHOWN, "s3"))
def trouble(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, ProxyThread]]:
    """A system, and the network before its S3."""
    directory = tmp_path_factory.mktemp("s3")
    with (
        ProxyThread.before(servers.s3().url) as proxy,
        SHAPES[request.param](directory, **bucket_through(proxy)) as system,
    ):
        yield system.start(), proxy


class Denier(http.server.BaseHTTPRequestHandler):
    """Says to everybody what an S3 says to one whose keys it does not know any more."""

    protocol_version = "HTTP/1.1"
    denied = 0

    def _deny(self) -> None:
        type(self).denied += 1
        self.rfile.read(int(self.headers.get("content-length") or 0))
        said = b"<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>"
        self.send_response(403)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _deny  # noqa: N815 - names are the base class's

    def log_message(self, *_: object) -> None:
        """Not on the tests' output."""


@contextmanager
def denied(proxy: ProxyThread) -> Iterator[None]:
    """The keys are not known any more."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denier) as server:
        threading.Thread(target=server.serve_forever).start()
        _, real = address_of(servers.s3().url)
        try:
            proxy.do(partial(_lead, port=server.server_port))
            yield
            until_sync(lambda: Denier.denied > 0, 20)
        finally:
            proxy.do(partial(_lead, port=real))
            server.shutdown()


def _lead(proxy: Proxy, port: int) -> None:
    proxy.lead(port)
    proxy.cut()


@contextmanager
def down(proxy: ProxyThread) -> Iterator[None]:
    """Nobody listens."""
    proxy.do(Proxy.part)
    try:
        yield
        until_sync(lambda: proxy.faults["refused"], 20)
    finally:
        proxy.do(lambda each: each.refuse(False))


@contextmanager
def hung(proxy: ProxyThread) -> Iterator[None]:
    """It takes everything and answers nothing."""
    proxy.do(Proxy.freeze)
    try:
        yield
        until_sync(lambda: proxy.faults["frozen requests"], 20)
    finally:
        proxy.do(Proxy.thaw)


@contextmanager
def slow(proxy: ProxyThread) -> Iterator[None]:
    """1,000 bytes a second."""
    proxy.do(lambda each: each.trickle(1_000))
    try:
        yield
        until_sync(lambda: proxy.faults["delayed"], 20)
    finally:
        proxy.do(lambda each: each.trickle(0))


FAULTS: Final[dict[str, Callable[[ProxyThread], object]]] = {"down": down, "hung": hung, "slow": slow, "denied": denied}


def ended(system: System, lines: list[str]) -> tuple[str, float]:
    """A job that logs; its id and the seconds until its end."""
    began = time.monotonic()
    job_id = system.submit("demo.log", {"lines": lines})
    assert system.job(job_id, wait=30)["state"] == "succeeded"
    return job_id, time.monotonic() - began


def log_of(system: System, job_id: str) -> tuple[str, str]:
    """How whole it says that it is, and the log."""
    answer = system.http.get(f"/logs/{job_id}")
    assert answer.status_code in {200, 503}, answer.text
    return answer.headers.get("taskflow-logs", ""), answer.text


def whole(system: System, job_id: str) -> bool:
    """Whether the log is there, every line of it once."""
    status, text = log_of(system, job_id)
    return status == "complete" and [text.count(f"{line}\n") for line in LINES] == [1] * len(LINES)


def spooled(system: System) -> int:
    """Bytes in the spools."""
    return spooled_in(system.directory)


def spooled_in(directory: Path) -> int:
    """Bytes in the spools of processes that run below a directory."""
    total = 0
    for path in directory.rglob("*.spool"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # shipped just now
    return total


@pytest.mark.parametrize("fault", FAULTS if FULL else ("hung", "denied"))
def test_jobs_do_not_notice(trouble: tuple[System, ProxyThread], fault: str, say: Say) -> None:
    """They end as soon, and the lines of all of them are there in the end."""
    system, proxy = trouble
    before, _ = ended(system, LINES)
    until_sync(lambda: whole(system, before), 30)
    within: list[str] = []
    times: list[float] = []
    breaking = FAULTS[fault](proxy)
    with breaking:  # type: ignore[attr-defined]
        end = time.monotonic() + LASTS
        while time.monotonic() < end or len(within) < 3:
            job_id, seconds = ended(system, LINES)
            within.append(job_id)
            times.append(seconds)
        assert system.http.get("/health").json()["status"] in {"degraded", "ok" if fault == "slow" else "degraded"}
        if fault != "slow":
            assert log_of(system, within[-1])[0] != "complete"
        assert 0 < spooled(system) <= SPOOL or fault == "slow"
    healed = time.monotonic()
    for job_id in within:
        until_sync(partial(whole, system, job_id), 40)
    back = time.monotonic() - healed
    until_sync(lambda: spooled(system) == 0, 30)
    say(
        f"S3: {fault}",
        f"{len(within)} jobs, the slowest took {max(times):.2f} s; their logs whole {back:.1f} s after its end",
    )
    assert max(times) < SOON


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of 2 MB with nothing left on it."""
    if os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root mounts a small disk")
    place.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """Leave no byte free."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError:
            pass
    return filler


CHATTER: Final = """
from taskflow import Context, task

@task("chatter")
async def chatter(ctx: Context, lines: int) -> None:
    for _ in range(lines):
        ctx.log.info("x" * 8_000)
"""


def test_the_disk_of_the_spool_is_full(tmp_path: Path, say: Say) -> None:
    """And S3 away: jobs end as ever; memory takes some of their lines, the rest is dropped, and the log says so."""
    place = tmp_path / "data" / "spool"
    jobs, lines = 40, 200
    (tmp_path / "chatter.py").write_text(CHATTER)
    with (
        small_disk(place),
        ProxyThread.before(servers.s3().url) as proxy,
        embedded(tmp_path, TASKFLOW_TASKS_MODULES="chatter", **bucket_through(proxy)) as system,
    ):
        system.start()
        assert system.job(system.submit("chatter", {"lines": lines}), wait=30)["state"] == "succeeded"
        until_sync(lambda: spooled(system) == 0, 30)
        resident = rss(system.worker.pid)
        with down(proxy):
            fill(place)
            ids = [system.submit("chatter", {"lines": lines}) for _ in range(jobs)]
            for job_id in ids:
                assert system.job(job_id, wait=30)["state"] == "succeeded"
            assert "log spool lost" in system.output
            grown = rss(system.worker.pid) - resident
        say("disk full, S3 away", f"{jobs * lines * 8 // 1_000} MB of log lines; memory grew by {grown >> 20} MiB")
        assert grown < 50 << 20
        until_sync(lambda: log_of(system, ids[0])[0] == "complete", 40)
        until_sync(lambda: log_of(system, ids[-1])[0] == "truncated", 40)
        assert "lines are missing here" in log_of(system, ids[-1])[1]
