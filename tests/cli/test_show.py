"""What commands print."""

from __future__ import annotations

import json
import sys

import pytest

from taskflow.cli import show
from taskflow.cli.app import run
from tests.cli.fake_api import JOB, Api


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


def test_control_characters_are_made_visible() -> None:
    """Whatever kind of value they are in."""
    assert show.text("a\tb\u202ec") == "a\\tb\\u202ec"
    assert show.text({"k": "\x1b"}) == '{"k": "\\u001b"}'
    assert show.text(None) == ""
