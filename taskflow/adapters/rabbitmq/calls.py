"""Every call of the driver goes through here: shielded from our cancel scopes, with a deadline, and with our errors.

What the driver does on its own (measured on 7.2.4): a call that is cancelled closes its whole channel; a link that falls
silent ends pending awaits with a CancelledError that nobody asked for; a dead channel raises RuntimeErrors.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from aiormq.abc import AbstractConnection
from aiormq.exceptions import AMQPError, ChannelPreconditionFailed

from taskflow.core.errors import BrokerUnavailable

RPC: Final = 5.0
"""Seconds that one call may take."""
GRACE: Final = 0.5
"""Seconds for the driver to tell of its own timeout, before the call is left."""

T = TypeVar("T")
log = logging.getLogger("taskflow.broker")
# It logs an error for each refused connection and each close; an outage is told once, by us.
_driver_log = logging.getLogger("aiormq")
if _driver_log.level == logging.NOTSET:
    _driver_log.setLevel(logging.CRITICAL)


class BrokerLost(BrokerUnavailable):
    """The channel or the connection of a call is gone."""


class BrokerSilent(BrokerLost):
    """A call was not answered in its time: the link behind it is doubtful."""


class ForeignQueue(BrokerUnavailable):
    """A queue of that name exists with other arguments than ours."""


async def call(work: Coroutine[Any, Any, T], seconds: float = RPC) -> T:
    """Await a call of the driver. Our own cancellation leaves it to its end and never reaches its channel.

    Args:
        work: the call, given the same timeout by its maker where it takes one.
        seconds: after which it counts as unanswered.

    Raises:
        BrokerLost: the link broke.
        BrokerSilent: no answer in time.
        ForeignQueue: the broker refused it as not fitting what exists (406).
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(retrieved)
    done, _ = await asyncio.wait({task}, timeout=seconds + GRACE)
    if not done:
        task.cancel()
        raise BrokerSilent(f"RabbitMQ did not answer within {seconds:g} s")
    return result_of(task, seconds)


def result_of(task: asyncio.Future[T], seconds: float = RPC) -> T:
    """The result of a finished call, its errors made ours (see `call`)."""
    if task.cancelled():
        raise BrokerLost("the link to RabbitMQ broke")
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, TimeoutError):
        raise BrokerSilent(f"RabbitMQ did not answer within {seconds:g} s") from error
    if isinstance(error, ChannelPreconditionFailed):
        raise ForeignQueue(text_of(error)) from error
    if isinstance(error, AMQPError | RuntimeError | OSError | EOFError | asyncio.CancelledError):
        raise BrokerLost(f"the link to RabbitMQ broke: {text_of(error)}") from error
    raise error


def ready(connection: AbstractConnection) -> bool:
    """Whether the broker takes messages from this connection: not blocked by its memory or disk alarm."""
    waiting = connection.ready()
    try:
        # Ends at once where nothing is to wait for; the driver shows its flag in no other way.
        waiting.send(None)
    except StopIteration:
        return True
    waiting.close()
    return False


def pause(failures: int, cap: float = 3.0) -> float:
    """Seconds before the next try after so many failures in a row: from 0.05, doubling, clamped, jittered."""
    doubled: float = min(cap, 0.05 * 2.0 ** min(failures - 1, 16))
    return doubled * random.uniform(0.5, 1)


def text_of(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).partition("\n")[0]


def retrieved(task: asyncio.Future[Any]) -> None:
    """A done-callback for tasks whose errors may stay unread."""
    if not task.cancelled():
        task.exception()
