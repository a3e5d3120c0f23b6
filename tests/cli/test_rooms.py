"""Commands about queues and dead letters, against an API made up here."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.cli.app import run
from tests.cli.fake_api import Api


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
