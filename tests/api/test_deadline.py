"""One timer for the deadlines of all requests."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskflow.roles.api.deadline import Deadline
from tests.support import lasting, until


async def answered(deadline: Deadline, seconds: float) -> float:
    """How long a request took that wants to take so long, or when it was ended."""
    begun = time.monotonic()
    try:
        await deadline.within(lasting(seconds))
    except TimeoutError:
        return -(time.monotonic() - begun)
    return time.monotonic() - begun


async def test_whatever_takes_too_long_is_ended_in_its_own_time() -> None:
    """Whenever it came, and whoever came and went before."""
    deadline = Deadline(0.3)
    calls = [asyncio.create_task(answered(deadline, 9.0 if n % 2 else 0.01)) for n in range(4)]
    await lasting(0.2)
    calls += [asyncio.create_task(answered(deadline, 9.0 if n % 2 else 0.01)) for n in range(4)]
    took = await asyncio.gather(*calls)
    assert all(one > 0 for one in took[::2])
    assert all(0.29 < -one < 2.0 for one in took[1::2])
    assert not deadline._ends


async def test_whoever_leaves_is_not_late() -> None:
    """A cancelled request is cancelled, not timed out, and leaves nothing behind."""
    deadline = Deadline(5.0)
    call = asyncio.create_task(deadline.within(lasting(9.0)))
    await until(lambda: deadline._ends)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not deadline._ends
    assert not deadline._late


async def test_a_cancel_that_comes_with_the_deadline_is_a_cancel() -> None:
    """Nobody waits for the answer any more."""
    deadline = Deadline(0.05)
    call = asyncio.create_task(deadline.within(lasting(9.0)))
    await until(lambda: deadline._ends)
    deadline._ends[call] = 0.0
    assert deadline._timer is not None
    deadline._timer.cancel()
    deadline._look(asyncio.get_running_loop())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_an_error_is_the_request_s_own() -> None:
    """It passes, and the next request of the same task has a deadline of its own."""
    deadline = Deadline(0.05)

    async def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await deadline.within(broken())
    with pytest.raises(TimeoutError):
        await deadline.within(lasting(9.0))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
