"""The shipped taskflow.toml: every setting, commented out, with its default. `python -m taskflow.wiring.example`."""

from __future__ import annotations

import json

from taskflow.wiring.options import OPTIONS

HEAD = """\
# Every setting of TaskFlow with its default. Uncomment what you change.
# Flags beat the environment (TASKFLOW_<SECTION>_<KEY>), which beats this file, which beats the defaults.
# Secrets may lie in files: TASKFLOW_<SECTION>_<KEY>_FILE. `taskflow config show` tells what is in force, and why.
"""


def example() -> str:
    """The text of the file."""
    lines = [HEAD]
    section = ""
    for option in OPTIONS.values():
        head, dot, name = option.key.rpartition(".")
        if dot and head != section:
            section = head
            lines.append(f"\n[{section}]")
        default = json.dumps(option.default)
        note = f" ({option.dev!r} in dev)".replace("'", '"') if option.dev is not None and not option.secret else ""
        lines += [f"# {option.meaning}{note}", f"# {name} = {default}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(example(), end="")  # noqa: T201 - its purpose
