"""How documents look on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS: Final = {
    "succeeded": "green", "failed": "red", "running": "cyan", "queued": "yellow", "retrying": "magenta",
    "cancelled": "dim", "expired": "dim", "alive": "green", "dead": "red",
}  # fmt: skip


def as_json(document: Any) -> None:
    """For scripts."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """For people. Text of jobs is shown as text: no markup, no control characters."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold", no_wrap=column in {"id", "state"})
    for row in rows:
        grid.add_row(*(cell(column, row.get(column)) for column in columns))
    Console(file=sys.stdout, soft_wrap=not sys.stdout.isatty()).print(grid)


def job(document: Mapping[str, Any]) -> None:
    """One job, a line a field."""
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in document.items():
        if name != "attempts" and value not in (None, [], {}):
            grid.add_row(name, cell(name, value))
    Console(file=sys.stdout).print(grid)
    if document.get("attempts"):
        print()
        table(document["attempts"], ("epoch", "number", "outcome", "started_at", "finished_at", "worker"))


def cell(column: str, value: Any) -> Text:
    """A value in a table."""
    if value is None:
        return Text("")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return Text(shown, style=COLOURS.get(shown, "") if column in {"state", "outcome"} else "")
