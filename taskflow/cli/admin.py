"""Commands that start processes, keep the schema and show the settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from taskflow.cli import show
from taskflow.cli.connect import OK, Json

if TYPE_CHECKING:
    from taskflow.wiring.settings import Settings

Config = Annotated[
    Path | None, Parameter(help="a TOML file; else TASKFLOW_CONFIG, else ./taskflow.toml if it is there")
]
Mode = Annotated[Literal["dev", "run"], Parameter(help="whose defaults hold")]
DataDir = Annotated[str | None, Parameter(help="directory of the embedded mode; else .taskflow")]
Tasks = Annotated[
    list[str] | None, Parameter(help="modules of tasks; repeated, or with commas", negative="", allow_repeating=True)
]
Queues = Annotated[str | None, Parameter(help="queues that this worker serves, with commas; else all")]
Host = Annotated[str | None, Parameter(help="address to listen on; else 127.0.0.1")]
Port = Annotated[int | None, Parameter(help="port to listen on; else 8000")]

Processes = Annotated[
    int | None, Parameter(help="so many processes, which share the port; one that dies is started anew; 0: one a core")
]

db = App(name="db", help="The schema of the store.")
config = App(name="config", help="The settings.")


def dev(
    *, host: Host = None, port: Port = None, data_dir: DataDir = None, tasks: Tasks = None, config: Config = None
) -> int:
    """Start everything in one process, with no service but a directory; the demo tasks are there beside yours."""
    flags = {"api.host": host, "api.port": port, "data_dir": data_dir, "tasks.modules": _joined(tasks)}
    return _start(load("dev", flags, config))


def run(
    *,
    roles: Annotated[str | None, Parameter(help="api, consumer, scheduler; with commas; else all")] = None,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    tasks: Tasks = None,
    queues: Queues = None,
    processes: Processes = None,
    config: Config = None,
    migrate: Annotated[bool, Parameter(help="bring the schema up to date first", negative="")] = False,
) -> int:
    """Start some roles or all."""
    flags = {
        "roles": roles,
        "api.host": host,
        "api.port": port,
        "data_dir": data_dir,
        "tasks.modules": _joined(tasks),
        "consumer.queues": queues,
        "processes": processes,
    }
    return _start(load("run", flags, config, migrate=migrate))


@db.command
def upgrade(revision: str = "head", /, *, data_dir: DataDir = None, config: Config = None) -> int:
    """Bring the schema up to date."""
    from taskflow.wiring import database  # noqa: PLC0415 - costs half a second

    return _migrate(lambda url: database.upgrade(url, revision), data_dir, config)


@db.command
def downgrade(revision: str, /, *, data_dir: DataDir = None, config: Config = None) -> int:
    """Take the schema back to a revision; `base` is before the first."""
    from taskflow.wiring import database  # noqa: PLC0415 - costs half a second

    return _migrate(lambda url: database.downgrade(url, revision), data_dir, config)


@db.command
def current(*, data_dir: DataDir = None, config: Config = None) -> int:
    """Show the installed revision."""
    _show_current(load("run", {"data_dir": data_dir}, config))
    return OK


@db.command
def history(*, as_json: Json = False) -> int:
    """Show every revision, newest first."""
    from taskflow.wiring import database  # noqa: PLC0415 - costs half a second

    show.rows(
        [{"revision": revision, "what": what} for revision, what in database.history()],
        ("revision", "what"),
        as_json=as_json,
    )
    return OK


@config.command
def check(*, mode: Mode = "run", config: Config = None) -> int:
    """Check the settings; tells everything that is wrong. Modules of tasks are looked for, and not run."""
    from taskflow.tasks.registry import not_found  # noqa: PLC0415 - costs a start
    from taskflow.wiring.settings import SettingsError  # noqa: PLC0415 - as above

    missing = not_found(load(mode, {}, config)["tasks.modules"])
    if missing:
        raise SettingsError(
            [f"tasks.modules: there is no module {name!r}, neither installed nor in {Path.cwd()}" for name in missing]
        )
    print("the settings are well")
    return OK


@config.command(name="show")
def show_settings(*, mode: Mode = "run", config: Config = None, as_json: Json = False) -> int:
    """Show every setting, its value and where that comes from; secrets are masked."""
    found = load(mode, {}, config).shown()
    items = [{"setting": key, "value": value, "source": source} for key, value, source in found]
    show.rows(items, ("setting", "value", "source"), as_json=as_json)
    return OK


def _joined(modules: list[str] | None) -> str | None:
    return None if modules is None else ",".join(modules)


def load(
    mode: Literal["dev", "run"], flags: Mapping[str, Any], config: Path | None, *, migrate: bool = False
) -> Settings:
    """The settings of a command: of a file that is named, or lies here."""
    from taskflow.wiring import settings  # noqa: PLC0415 - costs a third of a second

    if config is None:
        named, beside = os.environ.get("TASKFLOW_CONFIG"), Path("taskflow.toml")
        config = Path(named) if named else beside if beside.is_file() else None
    return settings.load(mode, flags, os.environ, config, migrate=migrate)


def _start(settings: Settings) -> int:
    from taskflow.wiring.signals import leave_when_told  # noqa: PLC0415 - the settings are there already

    leave_when_told()
    sys.stdout.flush()
    if settings["processes"] > 1:
        from taskflow.wiring import crew  # noqa: PLC0415 - costs a third of a second

        return crew.main(settings)
    from taskflow.wiring import runtime  # noqa: PLC0415 - costs a second

    return runtime.main(settings)


def _migrate(work: Callable[[str], None], data_dir: str | None, config: Path | None) -> int:
    """Change the schema; the embedded store only while no process uses it."""
    from taskflow.wiring import lock  # noqa: PLC0415 - beside what it guards

    settings = load("run", {"data_dir": data_dir}, config)
    url = settings["store.url"]
    with lock.embedded(url, settings["data_dir"]):
        work(url)
    _show_current(settings)
    return OK


def _show_current(settings: Settings) -> None:
    from taskflow.wiring import database  # noqa: PLC0415 - costs half a second

    installed, newest = database.current(settings["store.url"]), database.history()[0][0]
    print(f"{installed or 'nothing is installed'}{' (head)' if installed == newest else f'; head is {newest}'}")
