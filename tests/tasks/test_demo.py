"""The demo tasks and the test tasks: names and payloads that programs outside rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskflow import demo
from taskflow.core.errors import Invalid
from taskflow.core.job import Outcome, RunsIn
from taskflow.tasks.registry import Registry
from taskflow.testing import run, tasks
from tests.support import until_sync

NAMES = {
    "demo.echo": set(),
    "demo.sleep": {"seconds"},
    "demo.flaky": {"fail_times"},
    "demo.fail": {"message"},
    "demo.log": {"lines", "seconds"},
    "demo.progress": {"steps", "seconds"},
    "demo.words": {"text"},
    "demo.spin": {"seconds"},
    "test.effect": {"path", "key"},
    "test.noop": set(),
    "test.hang": set(),
    "test.hang_thread": {"seconds"},
    "test.block": {"seconds"},
    "test.crash": set(),
    "test.result": {"kind"},
}


def test_names_and_payloads_are_those_that_were_promised() -> None:
    """No more, no less."""
    registry = Registry.load(["taskflow.demo", "taskflow.testing.tasks"])
    schemas = {name: json.loads(task.info.schema) for name, task in registry.tasks.items()}
    assert {name: set(schema["properties"]) for name, schema in schemas.items()} == NAMES
    kinds = {name: task.runs_in for name, task in registry.tasks.items()}
    assert [name for name, kind in kinds.items() if kind is RunsIn.PROCESS] == ["demo.spin", "test.hang"]
    assert [name for name, kind in kinds.items() if kind is RunsIn.THREAD] == ["demo.words", "test.hang_thread"]


@pytest.mark.parametrize("payload", [{}, {"hello": "world"}, {"ctx": 1, "payload": [10**30, None, {"a": 0.5}]}])
def test_echo_returns_its_payload(payload: dict[str, Any]) -> None:
    """Whatever its members are called."""
    assert run(demo.echo, payload).result == payload


def test_flaky_fails_as_often_as_it_is_told() -> None:
    """By the number of the attempt."""
    outcomes = [run(demo.flaky, {"fail_times": 2}, attempt=attempt).outcome for attempt in (1, 2, 3)]
    assert outcomes == [Outcome.FAILED, Outcome.FAILED, Outcome.SUCCEEDED]


def test_fail_fails_for_good() -> None:
    """With its message."""
    done = run(demo.fail, {"message": "no contract"})
    assert done.error is not None
    assert (done.outcome, done.final, done.error.message) == (Outcome.FAILED, True, "no contract")


def test_the_other_demos_show_what_they_are_for() -> None:
    """Lines, progress, words, time."""
    assert [message for _, message, _ in run(demo.log, {"lines": ["a", "b"]}).logs] == ["a", "b"]
    assert run(demo.log, {"lines": []}).result == {"lines": 0}
    assert run(demo.progress, {"steps": 2, "seconds": 0}).progress == [(0.5, "step 1 of 2"), (1.0, "step 2 of 2")]
    assert run(demo.words, {"text": "to be or not to be"}).result["words"] == 6
    pause = Registry.load(["taskflow.demo"]).get("demo.sleep")
    assert run(pause, {"seconds": 0}).result == {"slept": 0}
    assert run(demo.spin, {"seconds": 0.01}).result["rounds"] > 0
    assert run(demo.spin, {"seconds": 3600}, cancelled=True).outcome is Outcome.SUCCEEDED
    with pytest.raises(Invalid, match="/payload/seconds"):
        run(pause, {"seconds": "1"})


def test_an_effect_is_one_line_of_key_epoch_worker(tmp_path: Path) -> None:
    """Appended, so that runs of several processes can be counted."""
    path = tmp_path / "effects"
    for attempt in (1, 2):
        assert run(tasks.effect, {"path": str(path), "key": "k"}, attempt=attempt).result == "k"
    assert path.read_text() == "k 1 test\nk 2 test\n"


@pytest.mark.parametrize("kind", ["nul", "surrogate", "nan", "huge", "cyclic", "unserialisable"])
def test_results_that_cannot_be_kept(kind: str) -> None:
    """Each fails for good."""
    done = run(tasks.result, {"kind": kind})
    assert done.error is not None
    assert (done.outcome, done.final, done.error.type) == (Outcome.FAILED, True, "UnstorableResult")


def test_noop_block_and_hang_thread_end() -> None:
    """In the time they are given."""
    assert run(tasks.noop).result is None
    assert run(tasks.block, {"seconds": 0}).outcome is Outcome.SUCCEEDED
    assert run(tasks.hang_thread, {"seconds": 0}).outcome is Outcome.SUCCEEDED


def started(handler: str) -> subprocess.Popen[bytes]:
    """A process that runs one test task."""
    code = f"from taskflow.testing import run, tasks; run(tasks.{handler})"
    return subprocess.Popen([sys.executable, "-c", code])


def test_crash_kills_the_process_that_it_runs_in() -> None:
    """At once, by SIGKILL, and no other."""
    with started("crash") as process:
        assert process.wait(30) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_hang_ignores_the_wish_to_end() -> None:
    """Only SIGKILL ends it."""
    with started("hang") as process:

        def ignores() -> bool:
            status = Path(f"/proc/{process.pid}/status").read_text()
            ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
            return bool(ignored >> (signal.SIGTERM - 1) & 1)

        try:
            until_sync(ignores, within=30)
        finally:
            os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
