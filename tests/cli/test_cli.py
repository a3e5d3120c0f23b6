"""Commands in this process, against an API made up here."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import httpx2
import pytest

import taskflow
from taskflow import cli
from taskflow.cli import admin, jobs, rooms, show
from taskflow.cli.app import app, run
from taskflow.client import Client

JOB: dict[str, Any] = {
    "id": "01a", "task": "t", "queue": "default", "state": "succeeded", "reason": None, "payload": {"a": 1},
    "result": None, "attempt": 1, "error": None, "tags": [], "created_at": "2026-11-25T07:00:00.000000Z",
    "attempts": [],
}  # fmt: skip


class Api:
    """Answers by path, and remembers what was asked."""

    def __init__(self) -> None:
        self.served: dict[str, Any] = {}
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """One request."""
        self.asked.append(request)
        answer = self.served.get(request.url.path.removeprefix("/api/v1"))
        if answer is None:
            return httpx2.Response(404, json={"status": 404, "detail": f"there is no path {request.url.path}"})
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)

    @property
    def body(self) -> Any:
        """What was posted last."""
        return json.loads(self.asked[-1].content)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """A fake API that every command talks to."""
    fake = Api()

    def client(_: str | None) -> Client:
        return Client("http://tasks.example", transport=httpx2.MockTransport(fake))

    for module in (jobs, rooms):
        monkeypatch.setattr(module, "client", client)
    return fake


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory without settings, and an environment without ours."""
    monkeypatch.chdir(tmp_path)
    for name in ("TASKFLOW_URL", "TASKFLOW_API_KEY", "TASKFLOW_CONFIG"):
        monkeypatch.delenv(name, raising=False)


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


def refused(status: int) -> httpx2.Response:
    """An answer that refuses."""
    return httpx2.Response(status, json={"status": status, "detail": f"because of {status}"})


@pytest.mark.parametrize(("status", "code"), [(404, 3), (400, 2), (401, 2), (409, 2), (422, 2), (429, 2), (503, 4)])
def test_a_refusal_has_its_exit_code(api: Api, capsys: pytest.CaptureFixture[str], status: int, code: int) -> None:
    """And its reason on standard error."""
    api.served["/jobs/x/cancel"] = refused(status)
    assert run(["jobs", "cancel", "x"]) == code
    assert f"because of {status}" in capsys.readouterr().err


def test_nobody_there_is_exit_4(capsys: pytest.CaptureFixture[str]) -> None:
    """Port 1 has no TaskFlow."""
    assert run(["jobs", "list", "--url", "http://127.0.0.1:1"]) == 4
    assert "start one with `taskflow dev`" in capsys.readouterr().err


def test_the_address_is_the_flags_else_the_environments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else this machine's."""
    monkeypatch.setenv("TASKFLOW_URL", "http://127.0.0.1:2")
    assert run(["tasks"]) == 4
    assert "http://127.0.0.1:2:" in capsys.readouterr().err
    assert run(["tasks", "--url", "http://127.0.0.1:1"]) == 4
    assert "http://127.0.0.1:1:" in capsys.readouterr().err
    assert run(["tasks", "--url", "nonsense"]) == 2


def test_lists_are_columns_or_json(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """The cursor to the next page is said beside them."""
    page = {"items": [JOB, JOB | {"id": "02", "state": "failed"}], "next_cursor": "c1"}
    api.served["/jobs"] = page
    assert run(["jobs", "list", "--state", "failed,succeeded", "--limit", "2"]) == 0
    assert dict(api.asked[0].url.params) == {"state": "failed,succeeded", "limit": "2"}
    captured = capsys.readouterr()
    heads, first, second = captured.out.splitlines()
    assert heads.split() == ["id", "task", "queue", "state", "reason", "attempt", "created_at"]
    assert (first.split()[0], second.split()[:4]) == ("01a", ["02", "t", "default", "failed"])
    assert captured.err == "more: --cursor c1\n"
    assert run(["jobs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == page


@pytest.mark.parametrize("words", ["queues list", "dead list", "tasks", "workers", "jobs list"])
def test_an_empty_list_is_its_heads(api: Api, capsys: pytest.CaptureFixture[str], words: str) -> None:
    """And no error."""
    for path in ("/queues", "/dead-letters", "/tasks", "/workers", "/jobs"):
        api.served[path] = {"items": [], "next_cursor": None}
    assert run(words.split()) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_terminal_gets_a_table_that_text_cannot_break(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No markup is read and no control character is sent."""
    api.served["/jobs"] = {"items": [JOB | {"reason": "[red]\x1b[2J[/red]\n"}], "next_cursor": None}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["jobs", "list"]) == 0
    out = capsys.readouterr().out
    assert "[red]\\x1b[2J[/red]\\n" in out
    assert "\x1b[2J" not in out


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


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["1", "2"], {"ids": ["1", "2"]}),
        (["--task", "t", "--error-type", "E"], {"filter": {"task": "t", "error_type": "E"}}),
        (["--all"], {"filter": {}}),
    ],
)
def test_dead_letters_are_chosen_by_id_or_filter(api: Api, words: list[str], body: dict[str, Any]) -> None:
    """The exit code is 1 where one of them was not done."""
    done = {"id": "1", "status": 200}
    api.served["/dead-letters/replay"] = {"items": [done]}
    api.served["/dead-letters/purge"] = {"items": [done, {"id": "2", "status": 409, "problem": {"detail": "no"}}]}
    assert run(["dead", "replay", *words]) == 0
    assert api.body == body
    assert run(["dead", "purge", *words]) == 1
    assert api.body == body


@pytest.mark.parametrize("words", [[], ["1", "--all"], ["1", "--task", "t"], ["--task", "t", "--all"]])
def test_all_dead_letters_are_never_meant_by_accident(api: Api, words: list[str]) -> None:
    """Nothing is asked."""
    assert run(["dead", "purge", *words]) == 2
    assert api.asked == []


def test_queues_are_paused_and_resumed(api: Api) -> None:
    """With a reason for others."""
    queue = {"name": "q", "depth": 0, "running": 0, "oldest": None, "paused": True, "pause_reason": "why"}
    api.served |= {"/queues/q/pause": queue, "/queues/q/resume": queue}
    assert run(["queues", "pause", "q", "--reason", "why"]) == 0
    assert api.body == {"reason": "why"}
    assert run(["queues", "resume", "q"]) == 0


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


def test_settings_are_checked_and_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From ./taskflow.toml, or TASKFLOW_CONFIG's file, or the flag's."""
    assert run(["config", "check"]) == 0
    (tmp_path / "taskflow.toml").write_text("[api]\nport = 1\n")
    (tmp_path / "other.toml").write_text('[api]\nport = 2\nkeys = "hunter2-hunter2-hunter2"\n')

    def port(*words: str) -> tuple[str, str]:
        assert run(["config", "show", "--json", *words]) == 0
        out = capsys.readouterr().out
        assert "hunter2" not in out
        rows = {row["setting"]: row for row in json.loads(out.removeprefix("the settings are well\n"))["items"]}
        return rows["api.port"]["value"], rows["api.port"]["source"]

    assert port() == ("1", "taskflow.toml")
    monkeypatch.setenv("TASKFLOW_CONFIG", str(tmp_path / "other.toml"))
    assert port() == ("2", str(tmp_path / "other.toml"))
    assert port("--config", "taskflow.toml") == ("1", "taskflow.toml")
    monkeypatch.setenv("TASKFLOW_API_PORT", "3")
    assert port() == ("3", "environment TASKFLOW_API_PORT")


def test_every_problem_of_the_settings_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line each, exit 2, and nothing starts."""
    monkeypatch.setenv("TASKFLOW_API_PORT", "x")
    monkeypatch.setenv("TASKFLOW_LOG_LEVL", "x")
    for words in (["config", "check"], ["dev"], ["run", "--roles", "api"], ["db", "current"]):
        assert run(words) == 2
        err = capsys.readouterr().err
        assert "api.port" in err
        assert "TASKFLOW_LOG_LEVEL?" in err


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("dev", {"api.host": "127.0.0.1", "api.port": 8000, "tasks.modules": ("taskflow.demo",)}),
        ("dev --host ::1 --port 0 --data-dir d --tasks a,b --tasks c",
         {"api.host": "::1", "api.port": 0, "data_dir": "d", "tasks.modules": ("taskflow.demo", "a", "b", "c")}),
        ("run", {"roles": ("api", "consumer", "scheduler"), "tasks.modules": ()}),
        ("run --roles scheduler,api,consumer --queues a,b --tasks m",
         {"roles": ("api", "consumer", "scheduler"), "consumer.queues": ("a", "b"), "tasks.modules": ("m",)}),
    ],
)  # fmt: skip
def test_processes_start_with_their_flags(monkeypatch: pytest.MonkeyPatch, words: str, values: dict[str, Any]) -> None:
    """And end with the code of the runtime."""
    started: list[Any] = []

    def start(settings: Any) -> int:
        started.append(settings)
        return 70

    monkeypatch.setattr(admin, "_start", start)
    assert run(words.split()) == 70
    assert {key: started[0][key] for key in values} == values
    assert started[0].mode == words.split(maxsplit=1)[0]


def test_the_schema_goes_up_and_down(capsys: pytest.CaptureFixture[str]) -> None:
    """And says where it is."""
    steps = ["current", "upgrade", "current", "downgrade base", "current", "history"]
    assert [run(["db", *step.split()]) for step in steps] == [0] * len(steps)
    lines = capsys.readouterr().out.splitlines()
    head = lines[1].partition(" ")[0]
    nothing = f"nothing is installed; head is {head}"
    assert lines[:5] == [nothing, f"{head} (head)", f"{head} (head)", nothing, nothing]
    assert lines[5].split() == ["revision", "what"]


def test_the_schema_of_a_store_in_use_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Another process holds the data directory."""
    from taskflow.wiring import lock  # noqa: PLC0415 - beside its use

    data = tmp_path / ".taskflow"
    with lock.embedded(f"sqlite:///{data}/taskflow.db", str(data)):
        assert run(["db", "upgrade"]) == 2
    assert "in use by process" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--help"], ["jobs"], ["submit", "--help"], ["--version"]])
def test_help_is_no_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It goes to standard output."""
    assert run(words) == 0
    assert capsys.readouterr().out


def test_every_command_says_what_it_does() -> None:
    """In the list of its group."""

    def commands(group: Any, path: str) -> list[tuple[str, str]]:
        found = []
        for name in group:
            if not name.startswith("-"):
                found += [(f"{path} {name}", group[name].help), *commands(group[name], f"{path} {name}")]
        return found

    found = commands(app, "taskflow")
    assert len(found) == 7 + 5 + 5 + 3 + 3 + 4 + 2
    assert [name for name, text in found if not text] == []


def test_control_characters_are_made_visible() -> None:
    """Whatever kind of value they are in."""
    assert show.text("a\tb\u202ec") == "a\\tb\\u202ec"
    assert show.text({"k": "\x1b"}) == '{"k": "\\u001b"}'
    assert show.text(None) == ""


def test_another_package_of_that_name_is_told_from_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files over ours would fail in odd ways later."""
    assert cli.ours(taskflow)
    other = types.ModuleType("taskflow")
    other.__path__ = ["/site-packages/taskflow"]
    monkeypatch.setattr(cli, "taskflow", other)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "another package named taskflow" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error() -> None:
    """`taskflow … | head -1` ends without a traceback."""
    command = [sys.executable, "-m", "taskflow", "config", "show"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_help_needs_neither_drivers_nor_the_http_client() -> None:
    """They cost a second, and most uses need none of them."""
    slow = ["httpx2", "sqlalchemy", "alembic", "obstore", "starlette", "uvicorn", "dependency_injector"]
    script = f"import sys; import taskflow.cli.app; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
