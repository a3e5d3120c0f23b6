"""Many rows by few statements: Python's driver lets go of the interpreter at each step of one, and `executemany` makes a step a
row. Where a loop is busy, the writer would wait for it as often."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

ROWS: Final = "{rows}"
SIZES: Final = (64, 16, 4, 1)
"""Rows a statement: few enough kinds for all to stay prepared."""


def write_many(connection: sqlite3.Connection, statement: str, row: str, values: Sequence[Sequence[Any]]) -> None:
    """Run a statement over rows.

    Args:
        statement: has `{rows}` where they belong.
        row: one of them, with its placeholders: `(?, 0, ?)`.
        values: of each.
    """
    done = 0
    for size in SIZES:
        while len(values) - done >= size:
            some = values[done : done + size]
            connection.execute(_of(statement, row, size), [value for each in some for value in each])
            done += size


@lru_cache(maxsize=64)
def _of(statement: str, row: str, size: int) -> str:
    return statement.replace(ROWS, ", ".join([row] * size))
