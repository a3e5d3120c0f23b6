"""Failpoints: before and after each call of a port, a process can die, fail, sleep or wait. For tests of recovery.

`TASKFLOW_TEST_FAILPOINTS` arms them in a process that is started with it; without it nothing of this is imported. Rules
are separated by `;`, each `POINT=ACTION[@N][%P]`:

    before:store.claim=kill@3          die at the third claim, before it is sent
    after:store.settle=raise%0.05      of twenty settlements, one is written and its reply lost
    before:broker.publish=sleep:2@*    each takes 2 s longer
    after:store.insert=pause:/tmp/go   until that file is there

Each firing is written to the file that `TASKFLOW_TEST_FAILPOINTS_LOG` names: a test whose failpoint did not fire proves
nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random
import signal
import typing
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from taskflow.core.errors import ArtifactsUnavailable, BrokerUnavailable, StoreUnavailable, TaskFlowError
from taskflow.ports.artifacts import Artifacts, Listing
from taskflow.ports.audit import Audit
from taskflow.ports.broker import Broker, Consumption, Delivery, Inspectable
from taskflow.ports.cache import Cache
from taskflow.ports.events import Events
from taskflow.ports.limiter import RateLimiter
from taskflow.ports.store import StateStore

VARIABLE: Final = "TASKFLOW_TEST_FAILPOINTS"
LOG: Final = "TASKFLOW_TEST_FAILPOINTS_LOG"
PROTOCOLS: Final[Mapping[str, Sequence[type]]] = {
    "store": (StateStore, Audit),
    "broker": (Broker, Inspectable),
    "consumption": (Consumption,),
    "delivery": (Delivery,),
    "cache": (Cache,),
    "events": (Events,),
    "artifacts": (Artifacts, Listing),
    "limiter": (RateLimiter,),
}
"""What crosses the ports, by the first half of a point's name; all but the first of each are optional."""
UNAVAILABLE: Final[Mapping[str, type[TaskFlowError]]] = {
    "store": StoreUnavailable,
    "broker": BrokerUnavailable,
    "consumption": BrokerUnavailable,
    "artifacts": ArtifactsUnavailable,
}
"""What `raise` raises; the other ports promise to raise nothing."""
MOST: Final = 1e6
"""Seconds, or passes: no test lasts so long."""
N = TypeVar("N", int, float)
ACTIONS: Final = ("kill", "raise", "sleep", "pause")
PAUSE: Final = 0.01

log = logging.getLogger("taskflow")


def methods(port: str) -> dict[str, Callable[..., Any]]:
    """What a port's users call, by name."""
    return {
        name: function
        for protocol in PROTOCOLS[port]
        for name, function in inspect.getmembers(protocol, inspect.isfunction)
        if not name.startswith("_")
    }


POINTS: Final = tuple(
    f"{when}:{port}.{name}" for port in PROTOCOLS for name in methods(port) for when in ("before", "after")
)
"""All of them."""


class BadRule(TaskFlowError):
    """Names no failpoint, or nothing that one can do."""


@dataclass(slots=True)
class Rule:
    """What happens at a point. `nth` counts passes from 1, 0 means each; `chance` is of 1, at each of these passes."""

    point: str
    action: str
    argument: str = ""
    nth: int = 1
    chance: float = 1.0
    passed: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        """One rule.

        Raises:
            BadRule: says what is wrong with it.
        """
        point, _, what = text.strip().partition("=")
        what, percent, chance = what.partition("%")
        what, at, nth = what.partition("@")
        action, _, argument = what.partition(":")
        if point not in POINTS:
            raise BadRule(f"{text!r}: there is no failpoint {point!r}")
        if action not in ACTIONS:
            raise BadRule(f"{text!r}: a failpoint can {', '.join(ACTIONS)}")
        if action == "raise" and _port(point) not in UNAVAILABLE:
            raise BadRule(f"{text!r}: the {_port(point)} port promises to raise nothing")
        passes = _number(text, int, nth, 1) if at and nth != "*" else 0 if at or percent else 1
        odds = _number(text, float, chance, 0, 1) if percent else 1.0
        if action == "sleep":
            _number(text, float, argument, 0)
        if action == "pause" and not argument:
            raise BadRule(f"{text!r}: a pause ends when a file is there: name it")
        return cls(point, action, argument, passes, odds)

    def fires(self) -> bool:
        """Whether this pass is the one."""
        self.passed += 1
        return self.nth in (0, self.passed) and (self.chance >= 1.0 or random.random() < self.chance)

    async def act(self) -> None:
        """Do it."""
        _tell(self)
        match self.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise UNAVAILABLE[_port(self.point)](f"failpoint {self.point}")
            case "sleep":
                await asyncio.sleep(float(self.argument))
            case _:
                while not os.path.exists(self.argument):  # noqa: ASYNC110, ASYNC240, PTH110 - there is nothing else to wait on
                    await asyncio.sleep(PAUSE)


def armed() -> list[Rule]:
    """The rules that this process was started with."""
    rules = [Rule.read(text) for text in os.environ.get(VARIABLE, "").split(";") if text.strip()]
    for rule in rules:
        log.warning("failpoint %s is armed: this process will %s on purpose", rule.point, rule.action)
    return rules


class Armed:
    """A port's object whose calls pass failpoints; everything else of it is as it was."""

    def __init__(self, port: str, inner: Any, rules: list[Rule]) -> None:
        self._port, self._inner, self._rules = port, inner, rules
        # Attributes of the object itself: whoever asks whether it can do something looks for them there.
        for name, function in methods(port).items():
            if hasattr(inner, name):
                setattr(self, name, self._wrapped(name, getattr(inner, name), function))

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._inner.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _wrapped(self, name: str, member: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
        """A call that passes its two points, whatever it is: awaited, entered or iterated."""

        async def passing(when: str) -> None:
            point = f"{when}:{self._port}.{name}"
            for rule in self._rules:
                if rule.point == point and rule.fires():
                    await rule.act()

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            await passing("before")
            answer = await member(*args, **kwargs)
            await passing("after")
            return answer

        @asynccontextmanager
        async def entered(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            await passing("before")
            async with member(*_landing(name, args, self._rules), **kwargs) as inner:
                await passing("after")
                yield _inside(name, inner, self._rules)

        async def iterated(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            await passing("before")
            async for each in member(*args, **kwargs):
                yield each
            await passing("after")

        if inspect.iscoroutinefunction(function):
            return awaited
        kind = typing.get_origin(typing.get_type_hints(function)["return"])
        return entered if kind is AbstractAsyncContextManager else iterated


def arm(port: str, adapter: Any) -> Any:
    """An adapter with its failpoints, as the environment says."""
    return Armed(port, adapter, armed())


def _inside(name: str, inner: Any, rules: list[Rule]) -> Any:
    """What a context gives is a port of its own, or calls of the one that made it."""
    return {"heart": Armed("store", inner, rules), "consume": Armed("consumption", inner, rules)}.get(name, inner)


def _landing(name: str, args: tuple[Any, ...], rules: list[Rule]) -> tuple[Any, ...]:
    """`consume` hands deliveries out, whose acks are calls of a port."""
    if name != "consume":
        return args
    lanes, prefetch, land = args
    return lanes, prefetch, lambda delivery: land(Armed("delivery", delivery, rules))


def _number(rule: str, kind: Callable[[str], N], text: str, least: float, most: float = MOST) -> N:
    try:
        number = kind(text)
    except ValueError:
        raise BadRule(f"{rule!r}: {text!r} is no number") from None
    # Not the other way round: a number that is none is in no order.
    if not least <= number <= most:
        raise BadRule(f"{rule!r}: {text} is not between {least:g} and {most:g}")
    return number


def _port(point: str) -> str:
    return point.partition(":")[2].partition(".")[0]


def _tell(rule: Rule) -> None:
    line = f"{os.getpid()} {rule.point} {rule.action}\n"
    if path := os.environ.get(LOG):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)


__all__ = ["POINTS", "Armed", "BadRule", "Rule", "arm", "armed", "methods"]
