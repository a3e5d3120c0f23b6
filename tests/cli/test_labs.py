"""The labs: what they show, and that they would show the contrary."""

from __future__ import annotations

from collections import Counter

import pytest

from taskflow.cli.app import run
from taskflow.cli.lab import stage
from taskflow.core.ids import new_id
from tests import servers


def test_a_killed_worker_loses_no_job(capsys: pytest.CaptureFixture[str]) -> None:
    """As a reader sees it."""
    assert run(["lab", "kill-the-worker", "--jobs", "10"]) == 0
    told = capsys.readouterr().out
    assert "11 accepted" in told
    assert "rescued 11 runs" in told
    assert "11 succeeded, of 11 accepted" in told
    assert "epoch 1, attempt 1: crashed\n     epoch 2, attempt 1: succeeded" in told
    assert "NOT" not in told


@pytest.mark.adapter("rabbitmq")
def test_jobs_are_done_without_a_broker(capsys: pytest.CaptureFixture[str]) -> None:
    """As a reader sees it."""
    words = ["--broker-url", servers.url_of("rabbitmq"), "--namespace", f"test-{new_id()}", "--jobs", "20"]
    assert run(["lab", "lose-the-broker", *words]) == 0
    told = capsys.readouterr().out
    assert "GET /health says, broker: " in told
    assert "20 succeeded: the worker draws them" in told
    assert "60 succeeded, of 60 accepted" in told
    assert "NOT" not in told


def test_a_promise_that_does_not_hold_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is the exit code."""
    monkeypatch.setattr(stage.System, "over", lambda *_: Counter(succeeded=1, failed=1))
    assert run(["lab", "kill-the-worker", "--jobs", "1"]) == 1
    assert "NOT as promised: 1 failed, 1 succeeded, of 2 accepted" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["amqp://127.0.0.1:1/", "amqps://127.0.0.1/", "nonsense"])
def test_a_broker_that_cannot_be_lost_is_told(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """Before anything is started."""
    assert run(["lab", "lose-the-broker", "--broker-url", url]) == 2
    assert "--broker-url" in capsys.readouterr().err


def test_a_process_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it wrote."""
    with stage.system(["dev"], TASKFLOW_STORE_URL="nonsense://") as running, pytest.raises(stage.NotAsPromised) as told:
        running.start()
    assert "no plug-in serves 'nonsense' as store" in str(told.value)
