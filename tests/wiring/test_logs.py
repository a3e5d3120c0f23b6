"""The process's own log, and the job's: one level for the first, everything in the second."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import logging
from taskflow.flow import capture
from taskflow.wiring import logs

logs.configure("json", "warning")
capture.install()
kept = []
capture.current.set(lambda level, message, fields, source: kept.append(message))
logging.getLogger("mine").info("of the job")
capture.current.set(None)
logging.getLogger("mine").info("nobody's")
logging.getLogger("mine").warning("of the process")
print(kept)
"""


def test_what_handlers_write_is_kept_however_quiet_the_process_is() -> None:
    """`log.level` is about standard error."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "['of the job']\n"
    assert "of the process" in done.stderr
    assert "nobody's" not in done.stderr
