"""Batches of log lines on their way to the object store. A batch keeps its name and number in the name of its file, so
that whoever ships it again, also after a kill, writes the same object and the same index rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import orjson

SUFFIX: Final = ".spool"
LINE_BYTES: Final = 200
"""Bytes of memory that a line takes beside its own."""

Run = tuple[str, int]

log = logging.getLogger("taskflow")


class Batch:
    """Lines that become one object.

    Args:
        number: orders the segments of a run: milliseconds of the clock, or more.
        name: unique.
        directory: where its file is; `None` keeps the lines in memory only.

    Attributes:
        jobs: whose lines it holds.
        size: bytes of its lines.
        broken: why the file does not hold all lines, `None` where it does.
    """

    def __init__(self, number: int, name: str, directory: Path | None) -> None:
        self.number = number
        self.name = name
        self.jobs: set[str] = set()
        self.size = 0
        self.broken: OSError | None = None
        self._lines: list[tuple[str, int, bytes, bool]] | None = []
        self._path = directory / f"{number:015d}-{name}{SUFFIX}" if directory else None
        self._file: BinaryIO | None = None
        if self._path is not None:
            try:
                self._file = self._path.open("xb", buffering=0)
            except OSError as error:
                self.broken = error

    @classmethod
    def found(cls, path: Path) -> Batch:
        """The batch of a file that a killed process left; its lines stay there."""
        number, _, name = path.name.removesuffix(SUFFIX).partition("-")
        batch = cls.__new__(cls)
        if number.isdigit() and name:
            batch.number, batch.name = int(number), name
        else:
            batch.number, batch.name = int(path.stat().st_mtime * 1_000), path.name.removesuffix(SUFFIX)
        batch.jobs, batch.size, batch.broken = set(), 0, None
        batch._lines, batch._path, batch._file = None, path, None  # noqa: SLF001 - its own class
        for job_id, _, line, _ in _read(path):
            batch.jobs.add(job_id)
            batch.size += len(line)
        return batch

    @property
    def loose(self) -> int:
        """Bytes of memory that its lines take, where they are nowhere else."""
        on_disk = self._path is not None and self.broken is None
        return 0 if on_disk or self._lines is None else self.size + LINE_BYTES * len(self._lines)

    def add(self, run: Run, line: bytes, *, cut: bool = False) -> None:
        """Keep one line; `cut` says that lines of its run are missing from here on."""
        assert self._lines is not None
        self._lines.append((*run, line, cut))
        self.jobs.add(run[0])
        self.size += len(line)
        if self._file is not None and self.broken is None:
            record = orjson.dumps([*run, line.decode("utf-8", "replace"), cut]) + b"\n"
            try:
                if self._file.write(record) != len(record):
                    raise OSError("no room for a whole line")
            except OSError as error:
                self.broken = error

    def seal(self) -> None:
        """No more lines. A file that lacks some is removed: it would make another object under the same name."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self.broken is not None:
            self._unlink()

    def release(self) -> None:
        """Forget the lines that the file holds."""
        if self._path is not None and self.broken is None:
            self._lines = None

    def texts(self) -> dict[Run, tuple[bytes, bool]]:
        """The text of each run, and whether lines of it are missing.

        Raises:
            FileNotFoundError: somebody removed the file.
        """
        parts: dict[Run, list[bytes]] = {}
        cuts: set[Run] = set()
        lines = self._lines
        if lines is None:
            assert self._path is not None
            lines = list(_read(self._path))
        for job_id, epoch, line, cut in lines:
            parts.setdefault((job_id, epoch), []).append(line)
            if cut:
                cuts.add((job_id, epoch))
        return {run: (b"".join(found), run in cuts) for run, found in parts.items()}

    def drop(self) -> None:
        """It is shipped."""
        self.seal()
        self._unlink()

    def _unlink(self) -> None:
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                self.broken = error


def found(paths: Iterable[Path]) -> list[Batch]:
    """The batches of files that killed processes left, oldest first; what cannot be read stays where it is."""
    batches = []
    for path in paths:
        try:
            batches.append(Batch.found(path))
        except OSError as error:
            log.error("the spool file %s cannot be read: %s", path, error)  # noqa: TRY400 - says it all
    return sorted(batches, key=lambda batch: (batch.number, batch.name))


def _read(path: Path) -> Iterator[tuple[str, int, bytes, bool]]:
    """Lines of a file; one that was cut short by a kill is lost."""
    with path.open("rb") as file:
        for raw in file:
            try:
                job_id, epoch, line, *cut = orjson.loads(raw)
                yield str(job_id), int(epoch), line.encode(), bool(cut and cut[0])
            except (ValueError, TypeError, AttributeError):
                continue
