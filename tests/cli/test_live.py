"""The command line against a real process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.acceptance.system import System, embedded


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One `taskflow dev` for all tests here."""
    with embedded(tmp_path_factory.mktemp("live")) as running:
        yield running.start()


def taskflow(system: System, *words: str) -> tuple[int, str]:
    """Exit code and standard output of a command."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "taskflow", *words],
        cwd=system.directory,
        env=environ | {"TASKFLOW_URL": f"http://127.0.0.1:{system.port}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def test_a_job_is_submitted_followed_and_shown(system: System) -> None:
    """The whole way of a newcomer."""
    code, out = taskflow(system, "submit", "demo.log", "--arg", 'lines=["one","two"]', "--arg", "seconds=0.5", "--json")
    job_id = json.loads(out)["id"]
    assert code == 0
    code, out = taskflow(system, "logs", "-f", job_id)
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()] == ["one", "two"]
    code, out = taskflow(system, "jobs", "show", job_id, "--json")
    assert (code, json.loads(out)["state"]) == (0, "succeeded")


def test_exit_codes(system: System) -> None:
    """For scripts: succeeded, failed, wrong, not there, wait ran out."""
    assert taskflow(system, "submit", "demo.echo", "--arg", "n=1", "--wait")[0] == 0
    assert taskflow(system, "submit", "demo.fail", "--arg", "message=no", "--wait")[0] == 1
    assert taskflow(system, "submit", "demo.sleep", "--arg", "seconds=soon")[0] == 2
    assert taskflow(system, "jobs", "show", "01a2119f-0ba3-708c-a541-d09a7d49ca03")[0] == 3
    assert taskflow(system, "submit", "demo.sleep", "--arg", "seconds=20", "--wait-timeout", "0.2")[0] == 124


def test_a_dead_letter_is_found_and_purged(system: System) -> None:
    """By its id."""
    job_id = system.submit("demo.fail", {"message": "no"}, max_attempts=1)
    system.job(job_id, wait=20)
    code, out = taskflow(system, "dead", "list", "--task", "demo.fail", "--json")
    assert code == 0
    assert job_id in [job["id"] for job in json.loads(out)["items"]]
    assert taskflow(system, "dead", "purge", job_id)[0] == 0
    assert taskflow(system, "jobs", "show", job_id)[0] == 3


@pytest.mark.parametrize("words", ["queues list", "tasks", "workers", "jobs list"])
def test_lists(system: System, words: str) -> None:
    """Each has its heads and at least one line."""
    system.job(system.submit("demo.echo"), wait=20)
    code, out = taskflow(system, *words.split())
    assert code == 0
    assert len(out.splitlines()) >= 2
