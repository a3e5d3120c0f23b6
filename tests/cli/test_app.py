"""What all commands have in common: whom they ask, how they end, and their help."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import httpx2
import pytest

import taskflow
from taskflow import cli
from taskflow.cli.app import app, run
from tests.cli.fake_api import Api


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
    assert len(found) == 7 + 5 + 5 + 3 + 3 + 4 + 2 + 2 + 3
    assert [name for name, text in found if not text] == []


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
