"""Lines of a dead process go to its own deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.wiring.runtime import spool_of
from taskflow.wiring.settings import load

STORE = "postgresql://me:secret@db:5432/jobs?schema=a"


def spool(tmp_path: Path, store: str = STORE, namespace: str = "taskflow") -> Path:
    """Of a deployment that works in a directory."""
    environment = {
        "TASKFLOW_DATA_DIR": str(tmp_path),
        "TASKFLOW_STORE_URL": store,
        "TASKFLOW_NAMESPACE": namespace,
    }
    return spool_of(load("run", {}, environment, None))


@pytest.mark.parametrize(
    ("store", "namespace"),
    [
        (STORE, "other"),
        (STORE.replace("schema=a", "schema=b"), "taskflow"),
        (STORE.replace("/jobs", "/others"), "taskflow"),
        (STORE.replace("@db", "@elsewhere"), "taskflow"),
        ("sqlite:///{data}/taskflow.db", "taskflow"),
    ],
)
def test_another_deployment_in_the_same_directory_has_a_spool_of_its_own(
    tmp_path: Path, store: str, namespace: str
) -> None:
    """It would store a stranger's lines where nobody looks for them."""
    assert spool(tmp_path, store, namespace) != spool(tmp_path)
    assert spool(tmp_path, store, namespace).parent == spool(tmp_path).parent == tmp_path / "spool"


def test_a_new_password_finds_the_old_lines(tmp_path: Path) -> None:
    """Nor does the name of a directory tell it."""
    assert spool(tmp_path, STORE.replace("me:secret", "you:changed")) == spool(tmp_path)
    assert "secret" not in str(spool(tmp_path))
