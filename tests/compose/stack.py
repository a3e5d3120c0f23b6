"""The files of compose/, read as an engine reads them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent
COMPOSE: Final = ROOT / "compose"
FILES: Final = sorted(COMPOSE.glob("*.yaml"))
# PostgreSQL has no third number, and MinIO has dates.
TAG: Final = re.compile(r"([\w./-]+:\d+\.\d+\.\d+|postgres:\d+\.\d+)(-[\w-]+)?|[\w./-]+:RELEASE\.[\dTZ-]+")
"""An image by a tag that always was the same."""
VARIABLE: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")

Service = dict[str, Any]


def document(path: Path, **variables: str) -> dict[str, Any]:
    """A file with its variables filled in, as they are set or by their defaults."""
    filled = _filled(yaml.safe_load(path.read_text()), variables)
    assert isinstance(filled, dict)
    return filled


def services(name: str, **variables: str) -> dict[str, Service]:
    """What `compose/<name>.yaml` starts."""
    found: dict[str, Service] = document(COMPOSE / f"{name}.yaml", **variables)["services"]
    return found


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    if isinstance(value, str):
        return VARIABLE.sub(lambda match: variables.get(match[1]) or match[2], value)
    return value


def fits_the_specification(path: Path) -> None:
    """Raise `AssertionError` where a file is none that the Compose specification allows."""
    _passes(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(path))


def has_no_known_flaw(dockerfile: Path) -> None:
    """Raise `AssertionError` where the linter of Dockerfiles finds something."""
    _passes(str(BIN / "hadolint"), str(dockerfile))


def _passes(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, what follows it), line by line."""
    lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in whole)]


@dataclass(frozen=True, slots=True)
class Image:
    """What the last stage of compose/Dockerfile says of a container."""

    entrypoint: list[str]
    command: list[str]
    environment: dict[str, str]
    user: str
    stop_signal: str

    @classmethod
    def read(cls) -> Image:
        """Read it."""
        told = instructions(COMPOSE / "Dockerfile")
        last = max(number for number, (word, _) in enumerate(told) if word == "FROM")
        said = dict(told[last:])
        pairs = [pair.partition("=") for pair in shlex.split(said["ENV"])]
        return cls(
            json.loads(said["ENTRYPOINT"]),
            json.loads(said["CMD"]),
            {name: value for name, _, value in pairs},
            said["USER"],
            said["STOPSIGNAL"],
        )
