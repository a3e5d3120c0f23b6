"""Where settings come from: a TOML file and the environment. Names that mean nothing are refused, with the nearest one."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from taskflow.wiring.options import OPTIONS

PREFIX: Final = "TASKFLOW_"
FOR_TESTS: Final = "TASKFLOW_TEST_"
OF_PROGRAMS: Final = frozenset({"TASKFLOW_URL", "TASKFLOW_API_KEY", "TASKFLOW_CONFIG"})
"""Names that the command line reads itself."""

Found = dict[str, tuple[Any, str]]
"""(value, source) by key."""


def from_file(path: Path, problems: list[str]) -> Found:
    """What a TOML file says."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return {}
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= (
            {f"{key}.{inner}": setting for inner, setting in value.items()} if isinstance(value, dict) else {key: value}
        )
    found = {}
    for key, value in flat.items():
        if key in OPTIONS:
            found[key] = (value, str(path))
        else:
            problems.append(f"{path}: there is no setting {key!r}{nearest(key, OPTIONS)}")
    return found


def from_environment(environ: Mapping[str, str], problems: list[str]) -> Found:
    """What the environment says; `…_FILE` names a file that holds a secret."""
    by_name = {option.env: option for option in OPTIONS.values()}
    files = {f"{option.env}_FILE": option for option in OPTIONS.values() if option.secret}
    found: Found = {}
    for name in sorted(environ):
        if option := by_name.get(name):
            found[option.key] = (environ[name], f"environment {name}")
        elif option := files.get(name):
            if option.env in environ:
                problems.append(f"environment: {name} and {option.env} are both set: unset one of them")
            secret = read_secret(environ[name], f"environment: {name}", problems)
            if secret is not None:
                found[option.key] = (secret, f"environment {name}")
        elif name.startswith(PREFIX) and not name.startswith(FOR_TESTS) and name not in OF_PROGRAMS:
            problems.append(f"environment: there is no setting {name}{nearest(name, [*by_name, *files])}")
    return found


def read_secret(path: str, asked_by: str, problems: list[str]) -> str | None:
    """The text of a secret's file, without its line end."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{asked_by}: {path!r} cannot be read: {error}")
        return None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at what may have been meant."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
