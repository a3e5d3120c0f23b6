"""The commands in one place, and how each ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from taskflow import __version__
from taskflow.cli import admin, jobs, rooms
from taskflow.cli.connect import BROKEN_PIPE, INTERRUPTED, OK, USAGE, code_of
from taskflow.cli.doctor import doctor
from taskflow.cli.lab import lab
from taskflow.cli.plugins import plugins
from taskflow.core.errors import TaskFlowError

app = App(name="taskflow", version=__version__, help="A self-hosted job orchestrator.")
for command in (admin.dev, admin.run, doctor, jobs.submit, jobs.logs, rooms.tasks, rooms.workers):
    app.command(command)
for group in (jobs.jobs, rooms.queues, rooms.dead, admin.db, admin.config, plugins, lab):
    app.command(group)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        Its exit code: 0, 1 for a job that did not succeed, 2 for wrong use, 3 for what is not there, 4 where nobody
        answers, 124 where a wait ran out.
    """
    try:
        result = app(list(arguments), exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
        return result if isinstance(result, int) else OK
    except CycloptsError:
        return USAGE  # cyclopts has said why
    except TaskFlowError as error:
        print(error, file=sys.stderr)
        return code_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough of it; the interpreter must not try to flush the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
