"""Commands that start processes, keep the schema and show the settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from taskflow.cli import show
from taskflow.wiring import settings as wiring

Config = Annotated[
    Path | None, Parameter(help="a TOML file; else TASKFLOW_CONFIG, else ./taskflow.toml if it is there")
]
Mode = Annotated[Literal["dev", "run"], Parameter(help="whose defaults to show")]


def add_admin(app: App) -> None:
    """Add the commands of this file."""
    db = App(name="db", help="The schema of the store.")
    config = App(name="config", help="The settings.")
    app.command(dev)
    app.command(run)
    app.command(db)
    app.command(config)
    for command in (upgrade, downgrade, current, history):
        db.command(command)
    config.command(check)
    config.command(show_settings, name="show")


def dev(
    *,
    host: str | None = None,
    port: int | None = None,
    data_dir: str | None = None,
    tasks: Annotated[str | None, Parameter(help="modules of tasks, with commas; beside the demo's")] = None,
    config: Config = None,
) -> int:
    """Start everything in one process, with no service but a directory."""
    modules = None if tasks is None else f"taskflow.demo,{tasks}"
    flags = {"api.host": host, "api.port": port, "data_dir": data_dir, "tasks.modules": modules}
    return _start(_load("dev", flags, config))


def run(
    *,
    roles: Annotated[str | None, Parameter(help="api, consumer, scheduler; with commas")] = None,
    host: str | None = None,
    port: int | None = None,
    config: Config = None,
    migrate: Annotated[bool, Parameter(help="bring the schema up to date first", negative="")] = False,
) -> int:
    """Start some roles or all."""
    flags = {"roles": roles, "api.host": host, "api.port": port}
    return _start(_load("run", flags, config, migrate=migrate))


def upgrade(revision: str = "head", /, *, config: Config = None) -> int:
    """Bring the schema up to date."""
    from taskflow.wiring import database  # noqa: PLC0415 - costs a second

    database.upgrade(_load("run", {}, config)["store.url"], revision)
    return current(config=config)


def downgrade(revision: str, /, *, config: Config = None) -> int:
    """Take the schema back."""
    from taskflow.wiring import database  # noqa: PLC0415 - costs a second

    database.downgrade(_load("run", {}, config)["store.url"], revision)
    return current(config=config)


def current(*, config: Config = None) -> int:
    """Show the installed revision."""
    from taskflow.wiring import database  # noqa: PLC0415 - costs a second

    print(database.current(_load("run", {}, config)["store.url"]) or "nothing is installed")
    return 0


def history() -> int:
    """Show every revision."""
    from taskflow.wiring import database  # noqa: PLC0415 - costs a second

    show.table([{"revision": revision, "what": what} for revision, what in database.history()], ("revision", "what"))
    return 0


def check(*, mode: Mode = "run", config: Config = None) -> int:
    """Check the settings; says everything that is wrong."""
    _load(mode, {}, config)
    print("the settings are well")
    return 0


def show_settings(
    *, mode: Mode = "run", config: Config = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:  # fmt: skip
    """Show every setting, its value and where that comes from; secrets are masked."""
    rows = [
        {"setting": key, "value": value, "source": source} for key, value, source in _load(mode, {}, config).shown()
    ]
    if as_json:
        show.as_json(rows)
    else:
        show.table(rows, ("setting", "value", "source"))
    return 0


def _load(mode: Literal["dev", "run"], flags: Mapping[str, Any], config: Path | None, *, migrate: bool = False) -> Any:
    if config is None:
        named = os.environ.get("TASKFLOW_CONFIG")
        config = Path(named) if named else Path("taskflow.toml") if Path("taskflow.toml").is_file() else None
    given = {key: value for key, value in flags.items() if value is not None}
    return wiring.load(mode, given, os.environ, config, migrate=migrate)


def _start(settings: wiring.Settings) -> int:
    from taskflow.wiring.runtime import main  # noqa: PLC0415 - costs a second

    sys.stdout.flush()
    return main(settings)
