"""Adapters by URL."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any, Self

import pytest

from taskflow.adapters.memory import MemoryBroker
from taskflow.wiring import plugins


class Foreign:
    """An adapter that somebody else made."""

    PORT_VERSION = 1

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Refuses what it must."""
        if "wrong" in url:
            raise ValueError(f"{url!r} is wrong")
        made = cls()
        made.url, made.options = url, options
        return made

    url: str
    options: dict[str, Any]


class Newer(Foreign):
    """One for ports that are not these."""

    PORT_VERSION = 99


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three more plug-ins."""
    classes = {"foreign": Foreign, "newer": Newer}

    def load(point: EntryPoint) -> Any:
        if point.name == "broken":
            raise ImportError("no module named nats")
        return classes.get(point.name, MemoryBroker)

    points = [
        EntryPoint(name, f"made.up:{name}", "taskflow.broker") for name in ("foreign", "newer", "broken", "memory")
    ]
    monkeypatch.setattr(EntryPoint, "load", load)
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "taskflow.broker" else [])
    plugins.schemes.cache_clear()
    monkeypatch.setattr(plugins, "schemes", plugins.schemes.__wrapped__)


def test_every_port_has_an_adapter() -> None:
    """Built-in ones are registered as plug-ins are."""
    assert all(plugins.schemes(port) for port in plugins.PORTS)
    assert plugins.load("broker", "memory") is MemoryBroker


@pytest.mark.usefixtures("installed")
def test_a_plug_in_is_chosen_by_its_scheme() -> None:
    """And gets the whole URL, and options."""
    made = plugins.adapter("broker", "foreign://u:p@h", namespace="n")
    assert (made.url, made.options) == ("foreign://u:p@h", {"namespace": "n"})


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://h", "no plug-in serves 'nats' as broker; installed: broken:, foreign:, memory:, newer:"),
        ("newer://h", "made.up:newer of newer: was made for version 99 of the ports, and this is 1"),
        ("broken://h", "made.up:broken of broken: cannot be imported: no module named nats"),
        ("foreign://u:hunter2@wrong", "'foreign://***@wrong' is wrong"),
    ],
)
def test_what_cannot_be_had_is_refused(url: str, told: str) -> None:
    """With the reason, and without a password."""
    with pytest.raises(plugins.NoSuchAdapter) as caught:
        plugins.adapter("broker", url)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_no_plug_in_at_all_is_an_installation_that_is_not_whole() -> None:
    """The message says so."""
    with pytest.raises(plugins.NoSuchAdapter, match="install taskflow-orchestrator"):
        plugins.adapter("cache", "memory://")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("amqp://u:p@h:5672/v", "amqp://***@h:5672/v"),
        ("amqp://u:p@ss@h/v", "amqp://***@h/v"),
        ("amqp:u:p@h", "amqp://***@h"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    """However the URL is written."""
    assert plugins.masked(url) == shown
