"""What the runtime does to its process."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from taskflow.roles.stop import Stop
from taskflow.wiring.runtime import Runtime
from taskflow.wiring.settings import load

STOPS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of the tests themselves, put back."""
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
async def test_a_signal_after_the_end_changes_nothing(handlers: None, number: signal.Signals) -> None:
    """The impatient second one reaches a process that has closed everything and only has to exit."""
    runtime = Runtime(load("dev", {}, {}, None), "")
    runtime._stop = Stop()
    with runtime._signals():
        assert signal.getsignal(number) is not signal.SIG_IGN
    assert signal.getsignal(number) is signal.SIG_IGN
