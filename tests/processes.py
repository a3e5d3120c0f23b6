"""What the system knows of a process."""

from __future__ import annotations

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
