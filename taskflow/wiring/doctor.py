"""Examines the deployment that the settings name: opens what can be opened, and holds the embedded store's lock if it can."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from taskflow.adapters.sql import revision
from taskflow.core.errors import TaskFlowError
from taskflow.flow import doctor
from taskflow.flow.doctor import Deployment, Finding, Life, Severity, fine
from taskflow.flow.logs import LogShipper
from taskflow.ports.audit import Audit
from taskflow.ports.broker import Inspectable
from taskflow.roles.api.jobs import cache_key
from taskflow.wiring import database, lock
from taskflow.wiring.container import container_of
from taskflow.wiring.plugins import PORTS, scheme_of
from taskflow.wiring.runtime import OPENING, spool_of
from taskflow.wiring.settings import Settings

LOOK: Final = 0.2
LOOKS: Final = 300
"""Seconds between two looks whether lines are stored, and how many looks there are."""


@dataclass(slots=True)
class Report:
    """What was found, and what was done about it."""

    findings: list[Finding] = field(default_factory=list)
    done: list[str] = field(default_factory=list)


def examine(settings: Settings, *, everything: bool = False, repair: bool = False) -> Report:
    """Look at a deployment, and mend it if told to."""
    report = Report([fine("settings", "they can work together")])
    url = settings["store.url"]
    with ExitStack() as stack:
        life = Life.SHARED
        if url.startswith(lock.SQLITE):
            path = Path(url.removeprefix(lock.SQLITE))
            if not path.is_file():
                report.findings.append(
                    Finding(
                        check="store",
                        severity=Severity.PROBLEM,
                        what=f"there is no database {path}",
                        means="nothing was ever stored here",
                        advice="name the right directory by --data-dir, or the right store by store.url",
                    )
                )
                return report
            try:
                stack.enter_context(lock.embedded(url, settings["data_dir"]))
                life = Life.STOPPED
            except lock.InUse as error:
                life = Life.RUNNING
                if error.orphaned:
                    report.findings.append(
                        Finding(
                            check="lock",
                            severity=Severity.PROBLEM,
                            what=str(error),
                            means="no job runs, and TaskFlow cannot start here",
                            advice="stop what holds it; a handler that forks leaves a copy of TaskFlow behind: let it start "
                            "a program of its own (subprocess), or end with its job",
                        )
                    )
        try:
            fits = _schema(url, report)
        except TaskFlowError as error:
            report.findings.append(doctor.unanswered("store", str(error)))
            return report
        if fits:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_examine(settings, life, report, everything=everything, repair=repair))
    return report


def _schema(url: str, report: Report) -> bool:
    """Whether the schema is one that can be looked at."""
    head = revision.HEAD
    installed = head if revision.up_to_date(url) else database.current(url)
    if installed != head:
        known = installed is None or installed in dict(database.history())
        report.findings.append(
            Finding(
                check="schema",
                severity=Severity.PROBLEM,
                what=f"it is at {installed or 'nothing'}, and this version needs {head}",
                means="no process of this version starts" if known else "a newer version made it",
                advice="run `taskflow db upgrade`" if known else "examine it by that version",
            )
        )
        return False
    try:
        differences = database.drift(url)
    except TaskFlowError as error:
        report.findings.append(
            Finding(check="schema", severity=Severity.WARNING, what=f"could not be compared with the tables: {error}")
        )
        return True
    if not differences:
        report.findings.append(fine("schema", f"it is at {head}, and as the tables say"))
        return True
    report.findings.append(
        Finding(
            check="schema",
            severity=Severity.PROBLEM,
            what="; ".join(differences[:5]) + (f" and {len(differences) - 5} more" if len(differences) > 5 else ""),
            means="somebody changed the schema by hand: statements may fail or be slow",
            advice="undo it; an empty database that `taskflow db upgrade` has made shows how it should be",
        )
    )
    return True


async def _examine(settings: Settings, life: Life, report: Report, *, everything: bool, repair: bool) -> None:
    async with AsyncExitStack() as stack:
        opened = await _open(settings, stack, report)
        store, artifacts, broker = opened.get("store"), opened.get("artifacts"), opened.get("broker")
        if store is None or artifacts is None:
            return
        if not isinstance(store, Audit):
            report.findings.append(
                Finding(check="store", severity=Severity.WARNING, what="this store cannot be asked about itself")
            )
            return
        shared = {port: one for port, one in opened.items() if scheme_of(settings[f"{port}.url"]) != "memory"}
        servers = shared | ({"store": _Read(store)} if life is Life.RUNNING else {})

        async def ship() -> None:
            await _ship(settings, opened)

        deployment = Deployment(
            life=life,
            namespace=settings["namespace"],
            sweep=settings.sweep,
            gap=settings.gap,
            store=store,  # type: ignore[arg-type]  # the store's class is a plug-in's
            artifacts=artifacts,
            cache_key=lambda job_id: cache_key(settings["namespace"], job_id),
            spool=spool_of(settings),
            ship=ship,
            servers=servers,
            broker=broker if "broker" in shared and isinstance(broker, Inspectable) else None,
            cache=shared.get("cache"),
            everything=everything,
        )
        report.findings += await doctor.examine(deployment)
        if repair:
            report.done = await doctor.repair(report.findings)


async def _open(settings: Settings, stack: AsyncExitStack, report: Report) -> dict[str, Any]:
    """What opens; what does not is told."""
    container = container_of(settings.values)
    opened = {}
    for port in PORTS:
        try:
            async with asyncio.timeout(OPENING):
                opened[port] = await stack.enter_async_context(getattr(container, port)())
        except (TaskFlowError, TimeoutError) as error:
            report.findings.append(doctor.unanswered(port, str(error) or f"not opened within {OPENING:g} s"))
    return opened


async def _ship(settings: Settings, opened: dict[str, Any]) -> None:
    """A shipper takes over what the dead left as soon as it starts."""
    ports = (opened["store"], opened["artifacts"], opened["events"])
    shipper = LogShipper(*ports, namespace=settings["namespace"], spool=spool_of(settings))
    async with shipper:
        for _ in range(LOOKS):
            if not shipper.waiting:
                break
            await asyncio.sleep(LOOK)


@dataclass(frozen=True, slots=True)
class _Read:
    """A store that another process writes: that it can be read is proof enough."""

    store: Any

    async def ping(self) -> None:
        await self.store.revision()
