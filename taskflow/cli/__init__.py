"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import sys

import taskflow


def main() -> None:
    """Run the command line and exit."""
    if not hasattr(taskflow, "lifespan"):
        sys.exit(
            "another package named taskflow lies over TaskFlow's files: uninstall it, and install taskflow-orchestrator again"
        )
    from taskflow.cli.app import run  # noqa: PLC0415 - after the check

    sys.exit(run(sys.argv[1:]))
