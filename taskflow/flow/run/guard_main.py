"""The guard's side: `python -I -S guard_main.py`. Reads `+GROUP` and `-GROUP` lines; at their end kills what is left.

It imports next to nothing, since every worker with children has one.
"""

import os
import signal
import sys


def main() -> None:
    """Hold the list of process groups until the worker is gone."""
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line[1:])
        if line.startswith(b"+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass


if __name__ == "__main__":
    main()
