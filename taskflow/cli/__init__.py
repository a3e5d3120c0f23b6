"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import sys

import taskflow

USAGE = 2


def main() -> None:
    """Run the command line and exit."""
    if not ours(taskflow):
        print(
            f"another package named taskflow lies over TaskFlow's files in {taskflow.__path__[0]}: uninstall it (`pip "
            "uninstall taskflow`), and install taskflow-orchestrator again",
            file=sys.stderr,
        )
        sys.exit(USAGE)
    from taskflow.cli.app import run  # noqa: PLC0415 - after the check

    sys.exit(run(sys.argv[1:]))


def ours(package: object) -> bool:
    """Whether an imported `taskflow` is this project; the index has another one of that name."""
    return {"Context", "task", "lifespan"} <= set(getattr(package, "__all__", ()))
