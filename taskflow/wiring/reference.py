"""docs/configuration.md, made of the settings themselves. `python -m taskflow.wiring.reference`."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from taskflow.wiring.options import OPTIONS, Option

HEAD: Final = """\
# Configuration

Every setting has a default. Flags beat the environment, which beats `taskflow.toml`, which beats the defaults;
`taskflow config show` tells what is in force and from where, `taskflow config check` whether it can work. Everything that
cannot work is refused at the start, all problems at once. In the file a setting stands in its section (`[api]`, then
`port = 9000`); in the environment it is `TASKFLOW_<SECTION>_<KEY>`. What is secret may lie in a file: `TASKFLOW_…_FILE`
names it. Durations are seconds or such as `1h30m`.
"""
URLS: Final = """
## URLs

The scheme of a URL chooses the adapter; what stands after `?` are its options.

| URL | for | options |
|---|---|---|
| `sqlite:///{data}/taskflow.db` | store | |
| `memory://` | broker, cache, events, limiter | |
| `file://{data}/objects` | artifacts | |
"""


def reference() -> str:
    """The text of the page."""
    lines = [HEAD]
    for section, options in groupby(OPTIONS.values(), key=lambda option: option.key.rpartition(".")[0]):
        lines += [f"\n## {f'`[{section}]`' if section else 'At the top'}\n", "| setting | default | |", "|---|---|---|"]
        lines += [_row(option) for option in options]
    return "\n".join(lines) + "\n" + URLS


def _row(option: Option) -> str:
    name = option.key.rpartition(".")[2]
    default = f"`{option.default}`" if option.default != "" else ""
    if option.dev is not None:
        default += f"; in `dev` `{option.dev}`" if default else f"in `dev` `{option.dev}`"
    secret = " (secret)" if option.secret else ""
    return f"| `{name}`<br>`{option.env}` | {default} | {option.meaning}{secret} |"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - its purpose
