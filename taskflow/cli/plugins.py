"""The command that shows which adapters are installed."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from taskflow.cli import show
from taskflow.cli.connect import JOB_FAILED, OK, Json

plugins = App(name="plugins", help="Adapters, built in and installed beside.")

Check = Annotated[bool, Parameter(help="import each, and say which does not fit", negative="")]


@plugins.command(name="list")
def list_plugins(*, check: Check = False, as_json: Json = False) -> int:
    """List what can stand in a URL: the ports, the schemes that serve them, and where they come from."""
    from taskflow.wiring.plugins import installed  # noqa: PLC0415 - costs a start

    found = installed(check=check)
    columns = ("port", "scheme", "distribution", "version", "adapter", *(("problem",) if check else ()))
    show.rows([{column: getattr(each, column) for column in columns} for each in found], columns, as_json=as_json)
    return JOB_FAILED if any(each.problem for each in found) else OK
