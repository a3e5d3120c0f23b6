"""Commands that read settings, start processes and move the schema."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from taskflow.cli import admin
from taskflow.cli.app import run
from taskflow.wiring import plugins
from taskflow.wiring.plugins import PORTS


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


def test_the_installed_adapters_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with the package that brought it; the check imports them."""
    assert run(["plugins", "list", "--check", "--json"]) == 0
    items = {(item["port"], item["scheme"]): item for item in json.loads(capsys.readouterr().out)["items"]}
    assert {item["port"] for item in items.values()} == set(PORTS)
    assert items["broker", "amqp"]["distribution"] == "taskflow-orchestrator"
    assert items["broker", "nats"]["distribution"] == "taskflow-nats"
    assert items["cache", "memcached"]["adapter"] == "taskflow_memcached:MemcachedCache"
    assert all(item["problem"] is None for item in items.values())


def test_an_adapter_that_cannot_be_used_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the list, and by the exit code; without the check nothing is imported."""
    points = [EntryPoint("old", "nowhere.at_all:Broker", "taskflow.broker")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "taskflow.broker" else [])
    assert run(["plugins", "list"]) == 0
    assert "nowhere.at_all:Broker" in capsys.readouterr().out
    assert run(["plugins", "list", "--check"]) == 1
    assert "cannot be imported: No module named 'nowhere'" in capsys.readouterr().out


def test_a_module_of_tasks_that_is_nowhere_is_told_and_none_is_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Here or installed; one that is there is only looked for."""
    (tmp_path / "here_it_is.py").write_text("raise SystemExit(9)")
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setenv("TASKFLOW_TASKS_MODULES", "here_it_is,taskflow.demo")
    assert run(["config", "check"]) == 0
    monkeypatch.setenv("TASKFLOW_TASKS_MODULES", "here_it_is,nosuch,.relative")
    assert run(["config", "check"]) == 2
    err = capsys.readouterr().err
    assert "'nosuch'" in err
    assert "'.relative'" in err
    assert "here_it_is" not in err


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
