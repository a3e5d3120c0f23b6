"""Settings: flags beat the environment, which beats the file, which beats the defaults. All problems are told at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from taskflow.core.errors import TaskFlowError
from taskflow.core.limits import SWEEP_SECONDS_MAX
from taskflow.roles.worker import Lease
from taskflow.wiring.options import OPTIONS, Option
from taskflow.wiring.plugins import masked, scheme_of
from taskflow.wiring.settings_checks import contradictions
from taskflow.wiring.settings_sources import Found, from_environment, from_file, nearest, read_secret

Mode = Literal["dev", "run"]
DATA: Final = "{data}"
DEMO: Final = "taskflow.demo"
MASK: Final = "***"


class SettingsError(TaskFlowError):
    """The settings cannot work; `problems` has a line for each reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force.

    Attributes:
        mode: `dev` or `run`.
        values: by key, read.
        raw: by key, as written; `{data}` in URLs filled in.
        sources: by key, where each value comes from.
        migrate: whether to bring the schema up to date at start.
    """

    mode: Mode
    values: Mapping[str, Any]
    raw: Mapping[str, Any]
    sources: Mapping[str, str]
    migrate: bool = False

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def lease(self) -> Lease:
        """The lease and what derives from it, in seconds."""
        length = self.values["consumer.lease"]
        return Lease(length, beat=min(5.0, length / 4), fence=length - min(5.0, length / 4))

    @property
    def sweep(self) -> float:
        """Seconds between sweeps."""
        return min(SWEEP_SECONDS_MAX, self.lease.length / 4)

    @property
    def gap(self) -> float:
        """Seconds without a sweep in which beats may have been missed as well."""
        return min(3 * SWEEP_SECONDS_MAX, self.lease.length / 2)

    def shown(self) -> list[tuple[str, str, str]]:
        """(key, value, source) of every setting; secrets masked."""
        return [(key, shown_value(OPTIONS[key], self.raw[key]), self.sources[key]) for key in OPTIONS]


def load(
    mode: Mode, flags: Mapping[str, Any], environ: Mapping[str, str], config: Path | None, *, migrate: bool = False
) -> Settings:
    """Read every source and check it all together.

    Args:
        mode: whose defaults hold; `dev` also migrates, and loads the demo tasks beside others.
        flags: values by key, from the command line; `None` is a flag that was not given.
        environ: the environment.
        config: a TOML file, or `None`.
        migrate: whether to bring the schema up to date at start.

    Raises:
        SettingsError: something is wrong; says everything that is.
    """
    problems: list[str] = []
    found = _defaults(mode)
    if config is not None:
        found |= from_file(config, problems)
    found |= from_environment(environ, problems)
    found |= _from_flags(flags, problems)
    raw = _placed({key: value for key, (value, _) in found.items()}, problems)
    sources = {key: source for key, (_, source) in found.items()}
    values = {}
    for key, option in OPTIONS.items():
        try:
            values[key] = option.read(raw[key])
        except (ValueError, TypeError) as error:
            problems.append(f"{key} ({sources[key]}): {'cannot be read (hidden)' if option.secret else error}")
    if values.get("api.keys_file"):
        text = read_secret(values["api.keys_file"], f"api.keys_file ({sources['api.keys_file']})", problems)
        values["api.keys"] = (*values.get("api.keys", ()), *OPTIONS["api.keys"].read(text or ""))
    if mode == "dev" and DEMO not in values.get("tasks.modules", (DEMO,)):
        values["tasks.modules"] = (DEMO, *values["tasks.modules"])
    problems += contradictions(values)
    if problems:
        raise SettingsError(problems)
    return Settings(mode, values, raw, sources, migrate or mode == "dev")


def _defaults(mode: Mode) -> Found:
    return {
        key: (option.default, "default") if mode == "run" or option.dev is None else (option.dev, "default of dev")
        for key, option in OPTIONS.items()
    }


def _from_flags(flags: Mapping[str, Any], problems: list[str]) -> Found:
    given = {key: value for key, value in flags.items() if value is not None}
    problems += [f"flag: there is no setting {key!r}{nearest(key, OPTIONS)}" for key in given if key not in OPTIONS]
    return {key: (value, "flag") for key, value in given.items() if key in OPTIONS}


def _placed(raw: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Fill in the data directory, absolute, as each kind of URL writes a path."""
    data = str(raw["data_dir"])
    if "?" in data:
        problems.append(f"data_dir {data!r}: a question mark would end the path in a URL; use another directory")
    absolute = str(Path(data).absolute())
    for key, value in raw.items():
        if OPTIONS[key].placed and isinstance(value, str) and DATA in value:
            raw[key] = value.replace(DATA, quote(absolute) if scheme_of(value) == "file" else absolute)
    return raw


def shown_value(option: Option, value: Any) -> str:
    """A setting for people; what is secret is masked."""
    if option.secret and value:
        return masked(str(value)) if option.placed else MASK
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
