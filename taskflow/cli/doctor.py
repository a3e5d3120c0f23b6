"""The command that examines a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from taskflow.cli import show
from taskflow.cli.admin import Config, DataDir, Mode, load
from taskflow.cli.connect import OK, Json, Misused

if TYPE_CHECKING:
    from taskflow.flow.doctor import Finding
    from taskflow.wiring.doctor import Report

PROBLEMS: Final = 1
SHOWN: Final = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM"}


def doctor(
    *,
    repair: Annotated[
        bool, Parameter(help="show what can be mended; nothing is done without --yes", negative="")
    ] = False,
    yes: Annotated[bool, Parameter(help="mend it", negative="")] = False,
    every: Annotated[bool, Parameter(name="--all", help="look at all objects, not at some", negative="")] = False,
    as_json: Json = False,
    mode: Mode = "run",
    data_dir: DataDir = None,
    config: Config = None,
) -> int:
    """Examine a deployment, where its settings are: what is wrong, what it means, what mends it.

    Exits with 0 where nothing is wrong, warnings or not, and with 1 where something is.
    """
    if yes and not repair:
        raise Misused("--yes goes with --repair")
    report = _examine(mode, data_dir, config, everything=every, mend=repair and yes)
    failed = sum(finding.severity.value == "problem" for finding in report.findings)
    if as_json:
        show.as_json(
            {"problems": failed, "findings": [_document(finding) for finding in report.findings], "done": report.done}
        )
    else:
        _print(report, plan=repair and not yes)
    return PROBLEMS if failed else OK


def _examine(mode: Any, data_dir: str | None, config: Path | None, *, everything: bool, mend: bool) -> Report:
    from taskflow.flow.doctor import Finding, Severity  # noqa: PLC0415 - costs a start
    from taskflow.wiring.doctor import Report, examine  # noqa: PLC0415 - costs a second
    from taskflow.wiring.settings import SettingsError  # noqa: PLC0415 - as above

    try:
        settings = load(mode, {"data_dir": data_dir}, config)
    except SettingsError as error:
        advice = "correct it; `taskflow config show` says where each value comes from"
        return Report(
            [
                Finding(check="settings", severity=Severity.PROBLEM, what=problem, advice=advice)
                for problem in error.problems
            ]
        )
    return examine(settings, everything=everything, repair=mend)


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "what": finding.what,
        "means": finding.means,
        "advice": finding.advice,
        "count": len(finding.ids),
        "ids": list(finding.ids[:20]),
        "repair": finding.repair.does if finding.repair else None,
    }


def _print(report: Report, *, plan: bool) -> None:
    for finding in report.findings:
        print(f"{SHOWN[finding.severity.value]:8} {finding.check:9} {show.text(finding.what)}")
        for name, said in (("means", finding.means), ("do", finding.advice)):
            if said:
                print(f"{'':18} {name}: {show.text(said)}")
        if finding.repair:
            print(f"{'':18} repair: {finding.repair.does}")
    for line in report.done:
        print(f"done     {line}")
    repairs = {finding.repair.name: finding.repair.does for finding in report.findings if finding.repair}
    if plan:
        print(f"\n{'--repair --yes would:' if repairs else 'there is nothing that --repair could mend'}")
        for does in repairs.values():
            print(f"  {does}")
    elif repairs and not report.done:
        print("\n`taskflow doctor --repair` shows what can be mended")
