"""The text of taskflow.toml: every setting with its default, commented out. `python -m taskflow.wiring.settings_file`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Final

from taskflow.wiring.options import OPTIONS, Option

HEAD: Final = (
    "# TaskFlow's settings, each with its default. Uncomment what you change.",
    "# The environment beats this file (TASKFLOW_API_PORT=9000), and flags beat the environment.",
    "# `taskflow config check` tells what is wrong; `taskflow config show` what is in force, and from where.",
    "",
)


def template() -> str:
    """The file's text."""
    return "\n".join([*HEAD, *_lines()]) + "\n"


def _lines() -> Iterator[str]:
    section = ""
    for option in OPTIONS.values():
        place, _, key = option.key.rpartition(".")
        if place != section:
            yield from ("", f"[{place}]")
            section = place
        yield f"# {_comment(option)}"
        yield f"#{key} = {_value(option.default)}"


def _comment(option: Option) -> str:
    return option.meaning if option.dev is None else f"{option.meaning} (taskflow dev: {_value(option.dev)})"


def _value(value: object) -> str:
    # JSON writes texts and whole numbers as TOML does.
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(template())
