"""The clients of bench/locustfile.py find nothing wrong, and would find it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.system import System, embedded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One that is put under load."""
    with embedded(tmp_path_factory.mktemp("load")) as made:
        yield made.start()


def locust(system: System, *options: str) -> subprocess.CompletedProcess[str]:
    """A few clients for a few seconds."""
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "bench/locustfile.py"), "--headless", "--only-summary"]
    where = ["--host", f"http://127.0.0.1:{system.port}", "-u", "8", "-r", "8", "-t", "4s"]
    # It writes its report beside its log.
    return subprocess.run(
        [*command, *where, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        cwd=system.directory,
    )


def test_everything_is_answered_as_it_must_be(system: System) -> None:
    """Each kind of request was made, and none failed."""
    done = locust(system)
    assert done.returncode == 0, done.stdout
    for name in ("/jobs", "/jobs/batch", "/jobs/{id}", "/jobs?state"):
        assert f" {name} " in done.stdout
    assert " 0(0.00%) " in done.stdout.split("Aggregated")[1]


def test_a_job_that_ends_otherwise_is_a_failure(system: System) -> None:
    """And ends locust with 1."""
    done = locust(system, "--job", "demo.fail")
    assert done.returncode == 1, done.stdout
    assert "a job is failed" in done.stdout
