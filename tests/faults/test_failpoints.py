"""Failpoints: around every call of a port, and nowhere where nobody asked for them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
import typing
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from taskflow import ports
from taskflow.core.errors import BrokerUnavailable, StoreUnavailable
from taskflow.ports.audit import Audit
from taskflow.ports.clock import Clock
from taskflow.testing import failpoints
from taskflow.testing.failpoints import LOG, POINTS, PROTOCOLS, VARIABLE, BadRule, Rule, arm
from taskflow.wiring import plugins


def protocols() -> set[type]:
    """Every port there is."""
    modules = [
        importlib.import_module(f"taskflow.ports.{found.name}") for found in pkgutil.iter_modules(ports.__path__)
    ]
    return {
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if getattr(member, "_is_protocol", False) and member.__module__.startswith("taskflow.ports")
    }


def test_every_method_of_every_port_has_two() -> None:
    """A port or a method that is added has them at once; the clock, which is no I/O, has none."""
    wanted = {
        (name, function.__qualname__)
        for port in protocols() - {Clock}
        for name, function in inspect.getmembers(port, inspect.isfunction)
        if not name.startswith("_")
    }
    covered = {
        (name, function.__qualname__)
        for port in PROTOCOLS
        for name, function in failpoints.methods(port).items()
        if {f"before:{port}.{name}", f"after:{port}.{name}"} <= set(POINTS)
    }
    assert wanted <= covered
    assert len(POINTS) >= 100


class Anything:
    """Serves each method of a port, in the form that the port says."""

    def __init__(self, port: str) -> None:
        self._methods = failpoints.methods(port)
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self._methods:
            raise AttributeError(name)
        function = self._methods[name]

        async def awaited(*_: Any, **__: Any) -> str:
            self.called.append(name)
            return name

        @asynccontextmanager
        async def entered(*arguments: Any) -> AsyncIterator[Anything]:
            self.called.append(name)
            yield Anything("consumption") if name == "consume" else self

        async def iterated(*_: Any, **__: Any) -> AsyncIterator[str]:
            self.called.append(name)
            yield name

        if inspect.iscoroutinefunction(function):
            return awaited
        kind = typing.get_origin(typing.get_type_hints(function)["return"])
        return entered if kind is AbstractAsyncContextManager else iterated


async def call(member: Callable[..., Any], name: str) -> None:
    """Use a method of any form."""
    made = member(*([], 1, print) if name == "consume" else ())
    if inspect.isawaitable(made):
        await made
    elif hasattr(made, "__aenter__"):
        async with made:
            pass
    else:
        assert [each async for each in made]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where firings are written."""
    monkeypatch.setenv(LOG, str(tmp_path / "fired"))
    return tmp_path / "fired"


@pytest.mark.parametrize("point", POINTS)
async def test_each_fires_where_it_says(point: str, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the call is made or after it has been, and tells."""
    monkeypatch.setenv(VARIABLE, f"{point}=sleep:0")
    when, _, what = point.partition(":")
    port, _, name = what.partition(".")
    inner = Anything(port)
    seen: list[list[str]] = []
    monkeypatch.setattr(failpoints.Rule, "act", spying(failpoints.Rule.act, lambda: seen.append(list(inner.called))))
    await call(getattr(arm(port, inner), name), name)
    assert inner.called == [name]
    assert seen == [[] if when == "before" else [name]]
    assert point in told.read_text()  # noqa: ASYNC240 - small


def spying(act: Callable[[Rule], Any], look: Callable[[], None]) -> Callable[[Rule], Any]:
    """The action, and a look before it."""

    async def acting(rule: Rule) -> None:
        look()
        await act(rule)

    return acting


async def test_what_a_port_hands_out_has_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats come from a connection of their own, acks belong to deliveries, and the lanes followed to a consumption."""
    monkeypatch.setenv(VARIABLE, "before:store.beat=raise")
    async with arm("store", Anything("store")).heart() as heart:
        with pytest.raises(StoreUnavailable):
            await heart.beat("w")
    monkeypatch.setenv(VARIABLE, "before:consumption.follow=raise")
    async with arm("broker", Anything("broker")).consume([], 1, print) as consumption:
        with pytest.raises(BrokerUnavailable):
            await consumption.follow([])


TURNS = ("", "@2", "@*", "%0", "%1", "@2%1", "@2%0", "@*%1")


async def test_a_rule_fires_at_its_turn_or_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """`@n` once, `@*` each time, `%p` so often; with both, at that pass and so often."""
    assert [Rule.read("before:store.claim=raise@2").fires() for _ in range(1)] == [False]
    rules = [Rule.read(f"before:store.claim=raise{how}") for how in TURNS]
    assert [[rule.fires() for _ in range(3)] for rule in rules] == [
        [True, False, False],
        [False, True, False],
        [True, True, True],
        [False, False, False],
        [True, True, True],
        [False, True, False],
        [False, False, False],
        [True, True, True],
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("before:store.clame=kill", "no failpoint 'before:store.clame'"),
        ("before:store.claim=explode", "can kill, raise, sleep, pause"),
        ("before:cache.get=raise", "promises to raise nothing"),
        ("before:store.claim=kill@x", "'x' is no number"),
        ("before:store.claim=kill@", "'' is no number"),
        ("before:store.claim=kill@0", "0 is not between 1"),
        ("before:store.claim=raise%x", "'x' is no number"),
        ("before:store.claim=raise%0.5@3", "'0.5@3' is no number"),
        ("before:store.claim=raise%5", "5 is not between 0 and 1"),
        ("before:store.claim=raise%nan", "nan is not between"),
        ("before:store.claim=sleep:x", "'x' is no number"),
        ("before:store.claim=sleep", "'' is no number"),
        ("before:store.claim=sleep:-1@2", "-1 is not between"),
        ("before:store.claim=pause", "name it"),
    ],
)
def test_a_wrong_rule_is_refused(text: str, complaint: str) -> None:
    """A fault test that injects nothing must not pass."""
    with pytest.raises(BadRule, match=complaint):
        Rule.read(text)


def test_without_the_variable_nothing_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters are what they are, and a process does not even import this."""
    made = plugins.adapter("cache", "memory://", namespace="t")
    monkeypatch.setenv(VARIABLE, "before:cache.get=sleep:0")
    armed = plugins.adapter("cache", "memory://", namespace="t")
    assert (type(made).__name__, type(armed).__name__) == ("MemoryCache", "Armed")
    store = plugins.adapter("store", "sqlite:///nowhere", namespace="t")
    assert isinstance(store, Audit)
    code = (
        "import sys, taskflow.cli, taskflow.wiring.runtime as r; sys.exit('taskflow.testing.failpoints' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
