"""Labs: a small system is started, hurt and watched, so that a guarantee can be seen and not only read of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Final

from cyclopts import App, Parameter
from cyclopts.validators import Number

from taskflow.cli.connect import OK

BROKEN_PROMISE: Final = 1

lab = App(name="lab", help="Start a small system, hurt it, and see what becomes of its jobs.")


@lab.command
def kill_the_worker(
    *, jobs: Annotated[int, Parameter(help="short jobs beside the long one", validator=Number(gte=1, lte=100))] = 50
) -> int:
    """Kill the one process while it runs jobs, start it again, and see that each job is done.

    It needs nothing but this installation: the process is `taskflow dev`, in a directory that is removed at the end.
    """
    from taskflow.cli.lab import worker  # noqa: PLC0415 - costs a third of a second

    return _ended(lambda: worker.play(jobs))


@lab.command
def lose_the_broker(
    *,
    broker_url: Annotated[str, Parameter(help="a RabbitMQ, which is not touched: a line to it is cut")] = (
        "amqp://guest:guest@127.0.0.1:5672/"
    ),
    namespace: Annotated[str, Parameter(help="prefix of the queues, which are left there")] = "taskflow-lab",
    jobs: Annotated[int, Parameter(help="jobs a step", validator=Number(gte=1, lte=500))] = 50,
) -> int:
    """Cut the line to RabbitMQ while jobs come in, and see that they are accepted and done all the same.

    Its jobs are kept in a directory that is removed at the end.
    """
    from taskflow.cli.lab import broker  # noqa: PLC0415 - costs a third of a second

    return _ended(lambda: broker.play(broker_url, namespace, jobs))


def _ended(play: Callable[[], None]) -> int:
    from taskflow.cli.lab.stage import NotAsPromised  # noqa: PLC0415 - as above

    try:
        play()
    except NotAsPromised as error:
        print(error, file=sys.stderr)
        return BROKEN_PROMISE
    return OK
