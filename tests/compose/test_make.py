"""`make up` and `make down`, with an engine that only tells what it was asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.compose.stack import ROOT

ENGINE = """#!/bin/sh
[ "$2" != version ] || exit {version}
echo "$(basename "$0") $*"
exit {code}
"""


def engine(directory: Path, name: str, version: int = 0, code: int = 0) -> None:
    """One whose `compose version` ends with one code, and all else with another."""
    (directory / name).write_text(ENGINE.format(version=version, code=code))
    (directory / name).chmod(0o755)


def make(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What `make` says where these engines come first."""
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["up"], "--file compose/compose.yaml up --detach --wait --build"),
        (["up", "STACK=single"], "--file compose/single.yaml up --detach --wait --build"),
        (
            ["up", "STACK=compose mine"],
            "--file compose/compose.yaml --file compose/mine.yaml up --detach --wait --build",
        ),
        (["down"], "--file compose/compose.yaml down"),
        (["down", "ARGS=--volumes"], "--file compose/compose.yaml down --volumes"),
    ],
)
def test_the_engine_is_asked(tmp_path: Path, words: list[str], asked: str) -> None:
    """For the files that are named; how it ends, make ends."""
    engine(tmp_path, "docker")
    assert make(tmp_path, *words).stdout == f"docker compose {asked}\n"
    engine(tmp_path, "docker", code=3)
    assert make(tmp_path, *words).returncode == 2


def test_podman_stands_in_for_docker(tmp_path: Path) -> None:
    """Also where there is a docker that knows no compose."""
    engine(tmp_path, "docker", version=1)
    engine(tmp_path, "podman")
    assert make(tmp_path, "down").stdout == "podman compose --file compose/compose.yaml down\n"


def test_no_engine_is_told(tmp_path: Path) -> None:
    """With what to do."""
    engine(tmp_path, "docker", version=1)
    engine(tmp_path, "podman", version=1)
    done = make(tmp_path, "up")
    assert done.returncode == 2
    assert "neither 'docker compose' nor 'podman compose' works here" in done.stderr
