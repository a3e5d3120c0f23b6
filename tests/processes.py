"""What the system knows of a process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path


def rss(pid: int) -> int:
    """Bytes of memory that a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def descriptors(pid: int, peers: Mapping[int, str]) -> Counter[str]:
    """Open files of a process, by what they are: connections by whom they lead to, where `peers` knows the port."""
    inodes = {f"socket:[{inode}]": peers.get(port, "clients") for inode, port in _connections(pid)}
    kinds: Counter[str] = Counter()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed between two looks.
        with suppress(OSError):
            link = str(path.readlink())
            kinds[inodes.get(link, link.partition(":")[0] if ":[" in link else "files")] += 1
    return kinds


def _connections(pid: int) -> Iterator[tuple[str, int]]:
    """Inode and remote port of each TCP connection that the process may have."""
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        yield words[9], int(words[2].partition(":")[2], 16)


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, the system's work for it included; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process, its children, theirs, and so on."""
    found = [pid]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            # It may end between two looks.
            with suppress(OSError):
                found += [int(child) for child in path.read_text().split()]
    return found
