"""A process that is told to end while it starts has begun nothing, and ends cleanly."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.cluster import bare


@pytest.mark.parametrize("processes", [1, 2])
def test_it_ends_at_once_and_well(tmp_path: Path, processes: int) -> None:
    """While the database does not answer it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        others = dict.fromkeys(("CACHE", "EVENTS", "LIMITER"), "redis://127.0.0.1:1/0")
        environment = bare(
            TASKFLOW_STORE_URL=url,
            TASKFLOW_BROKER_URL="amqp://guest:guest@127.0.0.1:1/",
            TASKFLOW_PROCESSES=str(processes),
            **{f"TASKFLOW_{name}_URL": value for name, value in others.items()},
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "taskflow", "run", "--port", "0"], cwd=tmp_path, env=environment
        )
        try:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0
        finally:
            process.kill()


TOLD_AT_THE_END_OF_AN_OBJECT = """
import os, signal, weakref
from taskflow.wiring.signals import leave_when_told

class Thing: ...

leave_when_told()
thing = Thing()
kept = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
del thing
print("still here")
"""


def test_it_ends_wherever_it_is() -> None:
    """Python ignores what is raised in a callback of the collector's, and imports are full of them."""
    done = subprocess.run(
        [sys.executable, "-c", TOLD_AT_THE_END_OF_AN_OBJECT], capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
