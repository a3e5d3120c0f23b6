"""The command line against a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Process


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One `taskflow dev` for all tests here."""
    running = Process(tmp_path_factory.mktemp("live")).start()
    yield running
    running.close()


def taskflow(process: Process, *words: str) -> tuple[int, str]:
    """Exit code and standard output of a command."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "taskflow", *words],
        cwd=Path(process.directory),
        env=environ | {"TASKFLOW_URL": f"http://127.0.0.1:{process.port}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def test_a_job_is_submitted_followed_and_shown(process: Process) -> None:
    """The whole way of a newcomer."""
    code, out = taskflow(
        process, "submit", "demo.log", "--arg", 'lines=["one","two"]', "--arg", "seconds=0.5", "--json"
    )
    job_id = json.loads(out)["id"]
    assert code == 0
    code, out = taskflow(process, "logs", "-f", job_id)
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()] == ["one", "two"]
    code, out = taskflow(process, "jobs", "show", job_id, "--json")
    assert (code, json.loads(out)["state"]) == (0, "succeeded")


def test_exit_codes(process: Process) -> None:
    """For scripts: succeeded, failed, wrong, not there, wait ran out."""
    assert taskflow(process, "submit", "demo.echo", "--arg", "n=1", "--wait")[0] == 0
    assert taskflow(process, "submit", "demo.fail", "--arg", "message=no", "--wait")[0] == 1
    assert taskflow(process, "submit", "demo.sleep", "--arg", "seconds=soon")[0] == 2
    assert taskflow(process, "jobs", "show", "01a2119f-0ba3-708c-a541-d09a7d49ca03")[0] == 3
    assert taskflow(process, "submit", "demo.sleep", "--arg", "seconds=20", "--wait-timeout", "0.2")[0] == 124


def test_a_dead_letter_is_found_and_purged(process: Process) -> None:
    """By its id."""
    job_id = process.submit("demo.fail", {"message": "no"}, max_attempts=1)
    process.job(job_id, wait=20)
    code, out = taskflow(process, "dead", "list", "--task", "demo.fail", "--json")
    assert code == 0
    assert job_id in [job["id"] for job in json.loads(out)["items"]]
    assert taskflow(process, "dead", "purge", job_id)[0] == 0
    assert taskflow(process, "jobs", "show", job_id)[0] == 3


@pytest.mark.parametrize("words", ["queues list", "tasks", "workers", "jobs list"])
def test_lists(process: Process, words: str) -> None:
    """Each has its heads and at least one line."""
    process.job(process.submit("demo.echo"), wait=20)
    code, out = taskflow(process, *words.split())
    assert code == 0
    assert len(out.splitlines()) >= 2
