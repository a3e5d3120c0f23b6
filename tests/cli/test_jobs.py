"""Commands about jobs, against an API made up here."""

from __future__ import annotations

import io
import json
import sys

import httpx2
import pytest

from taskflow.cli.app import run
from tests.cli.fake_api import JOB, Api


def test_a_submit_says_what_it_was_told(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments are JSON where they read as JSON; what was not said is left out."""
    api.served["/jobs"] = JOB
    words = 'submit t --payload {"a":1,"b":2} --arg b=3 --arg c=text --arg d=[1] --arg e=x=y --arg f="7"'
    words += " --queue q --priority 9 --delay 1h --max-attempts 2 --timeout 5m --tag x --tag y --key k --json"
    assert run(words.split()) == 0
    assert api.body == {
        "task": "t",
        "payload": {"a": 1, "b": 3, "c": "text", "d": [1], "e": "x=y", "f": "7"},
        "queue": "q", "priority": 9, "delay": "1h", "max_attempts": 2, "timeout": "5m", "tags": ["x", "y"],
    }  # fmt: skip
    assert api.asked[0].headers["Idempotency-Key"] == "k"
    assert json.loads(capsys.readouterr().out) == JOB
    assert run(["submit", "t"]) == 0
    assert api.body == {"task": "t"}


def test_a_payload_comes_from_standard_input(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is called `-`."""
    api.served["/jobs"] = JOB
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"n": 12345678901234567890123}'))
    assert run(["submit", "t", "--payload", "-"]) == 0
    assert b"12345678901234567890123" in api.asked[0].content


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--payload", "[1]"], "must be a JSON object"),
        (["--payload", "{"], "--payload is no JSON"),
        (["--payload", '{"a": NaN}'], "NaN is no JSON"),
        (["--payload", '{"a": 1e999}'], "1e999 is too large"),
        (["--arg", "a"], "--arg 'a': use name=value"),
        (["--wait-timeout", "soon"], "'soon' is no duration"),
        (["--nonsense"], "--nonsense"),
        (["--priority", "high"], "priority"),
    ],
)
def test_wrong_use_is_exit_2_and_nothing_is_sent(
    api: Api, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """With the reason on standard error."""
    assert run(["submit", "t", *words]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""
    assert api.asked == []


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1), ("expired", 1)])
def test_the_exit_code_of_a_wait_is_the_jobs(api: Api, state: str, code: int) -> None:
    """For submit --wait and jobs wait."""
    api.served |= {"/jobs": JOB | {"state": "queued"}, "/jobs/01a": JOB | {"state": state}}
    assert run(["submit", "t", "--wait"]) == code
    assert run(["jobs", "wait", "01a"]) == code


def test_a_wait_that_runs_out_is_exit_124(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """As `timeout` has it."""
    api.served |= {"/jobs": JOB, "/jobs/01a": JOB | {"state": "running"}}
    assert run(["submit", "t", "--wait-timeout", "10ms"]) == 124
    assert run(["jobs", "wait", "01a", "--timeout", "0"]) == 124
    assert "it is running" in capsys.readouterr().err


def test_a_job_is_shown_with_its_attempts(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """And why it failed; empty fields are left out."""
    error = {"type": "ValueError", "message": "no\x07", "traceback": None}
    attempt = {
        "epoch": 1, "number": 1, "outcome": "failed", "started_at": "s", "finished_at": "f", "worker": "w",
        "error": error,
    }  # fmt: skip
    api.served["/jobs/01a"] = JOB | {"state": "failed", "error": error, "attempts": [attempt]}
    assert run(["jobs", "show", "01a"]) == 0
    out = capsys.readouterr().out
    assert "ValueError: no\\x07" in out
    assert "reason" not in out
    assert out.splitlines()[-1].split() == ["1", "1", "failed", "s", "f", "w", "no\\x07"]


def test_a_replay_takes_another_payload(api: Api) -> None:
    """Or none at all."""
    api.served["/jobs/01a/replay"] = JOB
    assert run(["jobs", "replay", "01a", "--arg", "n=1"]) == 0
    assert api.body == {"payload": {"n": 1}}
    assert run(["jobs", "replay", "01a"]) == 0
    assert api.asked[-1].content == b""


def test_logs_cannot_act_on_a_terminal(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """A line within a message is indented: it cannot pass for one of its own."""
    record = {
        "ts": "2026", "level": "info", "message": "a\n2026 INFO forged\x1b[2J", "fields": {"n": 1, "s": "\r"},
    }  # fmt: skip
    answer = httpx2.Response(200, text=json.dumps(record) + "\n", headers={"Taskflow-Logs": "truncated"})
    api.served |= {"/logs/01a": answer, "/jobs/01a": JOB}
    assert run(["logs", "01a"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "2026 INFO    a\n    2026 INFO forged\\x1b[2J n=1 s=\\r\n"
    assert "some lines are missing" in captured.err
    assert run(["logs", "01a", "-f", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record
