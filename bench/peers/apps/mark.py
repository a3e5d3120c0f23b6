"""What all peers share: the payload of a job, and when each ran.

A file of the process's own in `MARKS` has a count first, then a time for each job (ns since 1970). It costs about half a
microsecond a job, so that no peer pays for being watched.
"""

import json
import mmap
import os
import struct
import threading
import time
from pathlib import Path

CAPACITY = 1 << 20
NUMBER = struct.Struct("q")
PAYLOAD = json.loads(os.environ["PAYLOAD"])


class Marks:
    """Of one process; a fork begins its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0

    def __call__(self) -> int:
        """A job has run."""
        # As one step: of two threads the later one may be here first, and the count must never step back.
        with self._lock:
            if self._pid != os.getpid():
                self._open()
            self._place += 1
            NUMBER.pack_into(self._map, NUMBER.size * self._place, time.time_ns())
            NUMBER.pack_into(self._map, 0, self._place)
        return 1

    def _open(self) -> None:
        with Path(os.environ["MARKS"], str(os.getpid())).open("w+b") as file:
            file.truncate(NUMBER.size * (1 + CAPACITY))
            self._map = mmap.mmap(file.fileno(), 0)
        self._place = 0
        self._pid = os.getpid()


mark = Marks()
