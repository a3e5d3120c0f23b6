"""What tests of commands share."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from taskflow.cli import jobs, rooms
from taskflow.client import Client
from tests.cli.fake_api import Api


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
