"""Whoever adopts the runs of the dead has proof that they are dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.wiring.lock import InUse, embedded


@pytest.mark.parametrize(("store", "data"), [("same.db", "other"), ("other.db", "same")])
def test_neither_the_database_nor_the_data_directory_is_shared(tmp_path: Path, store: str, data: str) -> None:
    """The refusal names the file and the process; the lock ends with its holder."""
    first = (f"sqlite:///{tmp_path}/same.db", str(tmp_path / "same"))
    second = (f"sqlite:///{tmp_path}/{store}", str(tmp_path / data))
    with embedded(*first), pytest.raises(InUse, match="in use by process"), embedded(*second):
        pass
    with embedded(*second):
        pass


def test_other_stores_are_shared(tmp_path: Path) -> None:
    """PostgreSQL needs no lock of ours."""
    with embedded("postgresql://x/y", str(tmp_path)), embedded("postgresql://x/y", str(tmp_path)):
        pass
