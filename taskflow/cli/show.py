"""How documents look: tables on a terminal, the same in plain columns elsewhere, JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

COLOURS: Final = {
    "succeeded": "green",
    "failed": "red",
    "running": "cyan",
    "queued": "yellow",
    "retrying": "magenta",
    "cancelled": "dim",
    "expired": "dim",
    "alive": "green",
    "dead": "red",
    "error": "red",
    "critical": "red",
    "warning": "yellow",
}
COLOURED: Final = frozenset({"state", "outcome"})
ATTEMPT: Final = ("epoch", "number", "outcome", "started_at", "finished_at", "worker", "error")
EMPTY: Final[tuple[Any, ...]] = (None, [], {})


def as_json(document: Any) -> None:
    """For scripts."""
    print(json.dumps(document, indent=2))


def one(*, as_json: bool) -> Callable[[Any], None]:
    """How one job is shown."""
    return _json if as_json else job


def page(document: Any, columns: Sequence[str], *, as_json: bool) -> None:
    """A page of items; the cursor to the next goes to standard error."""
    if as_json:
        _json(document)
        return
    table(document["items"], columns)
    if document["next_cursor"]:
        remark(f"more: --cursor {document['next_cursor']}")


def rows(items: Sequence[Any], columns: Sequence[str], *, as_json: bool) -> None:
    """Items without pages."""
    if as_json:
        _json({"items": list(items)})
    else:
        table(items, columns)


def table(items: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """For people."""
    lines = [[text(item.get(column)) for column in columns] for item in items]
    if not sys.stdout.isatty():
        _plain([list(columns), *lines])
        return
    from rich.console import Console  # noqa: PLC0415 - for terminals only
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold", no_wrap=column in {"id", "state"})
    for line in lines:
        grid.add_row(*(Text(cell, style=_style(column, cell)) for column, cell in zip(columns, line, strict=True)))
    Console(file=sys.stdout).print(grid)


def job(document: Mapping[str, Any]) -> None:
    """One job, a line a field, and a table of its attempts."""
    known = [(name, value) for name, value in document.items() if name not in {"attempts", "error"}]
    fields = [[name, text(value)] for name, value in known if value not in EMPTY or name == "result"]
    if error := document.get("error"):
        fields.append(["error", f"{text(error['type'])}: {text(error['message'])}"])
    _plain(fields)
    if attempts := document.get("attempts"):
        print()
        table([{**attempt, "error": (attempt["error"] or {}).get("message")} for attempt in attempts], ATTEMPT)


def log(record: Mapping[str, Any], *, as_json: bool) -> None:
    """A line of a job's log. Lines within a message are indented, so that none can pass for a line of its own."""
    if as_json:
        print(json.dumps(record), flush=True)
        return
    message = "\n    ".join(text(line) for line in str(record.get("message", "")).split("\n"))
    fields = "".join(f" {text(name)}={text(value)}" for name, value in (record.get("fields") or {}).items())
    level = text(record.get("level", "")).upper()
    print(f"{text(record.get('ts', ''))} {level:7} {message}{fields}", flush=True)


def remark(line: str) -> None:
    """Something beside the answer."""
    print(line, file=sys.stderr)


def text(value: Any) -> str:
    """A value as text that cannot act on a terminal."""
    if value is None:
        return ""
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in written)


_json = as_json


def _plain(lines: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _style(column: str, cell: str) -> str:
    return COLOURS.get(cell, "") if column in COLOURED else ""
