"""All checks, and all repairs.

A check is a function from a deployment to what it found. Nothing is believed at first sight that a system at work may be
in for a moment: it is looked at again, and told only if the same rows are still so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from taskflow.flow.doctor.cached import cached
from taskflow.flow.doctor.deployment import Check, Deployment
from taskflow.flow.doctor.findings import Finding, Severity, fine, named, reason
from taskflow.flow.doctor.lanes import lanes
from taskflow.flow.doctor.objects import objects
from taskflow.flow.doctor.queued import due, queued
from taskflow.flow.doctor.rows import rows
from taskflow.flow.doctor.servers import clock, servers
from taskflow.flow.doctor.spools import spools
from taskflow.flow.doctor.workers import runs, sweeps, workers

CHECKS: Final[Sequence[Check]] = (
    servers, clock, sweeps, workers, runs, queued, due, rows, lanes, objects, spools, cached,
)  # fmt: skip


async def examine(
    deployment: Deployment, checks: Sequence[Check] = CHECKS, again: float | None = None
) -> list[Finding]:
    """Everything that the checks find.

    Args:
        again: seconds until what may pass is looked at again; else a little more than a sweep.
    """
    found = []
    first = [(check, await _looked(check, deployment)) for check in checks]
    if any(finding.lasting for _, findings in first for finding in findings):
        await asyncio.sleep(deployment.sweep + 1 if again is None else again)
    for check, findings in first:
        if any(finding.lasting for finding in findings):
            found += _confirmed(findings, await _looked(check, deployment))
        else:
            found += findings
    return found


async def repair(findings: Sequence[Finding]) -> list[str]:
    """Do every repair once; what each did, or why it could not."""
    repairs = {finding.repair.name: finding.repair for finding in findings if finding.repair is not None}
    told = []
    for one in repairs.values():
        try:
            told.append(await one.work())
        except Exception as error:
            told.append(f"could not {one.does}: {reason(error)}")
    return told


async def _looked(check: Check, deployment: Deployment) -> list[Finding]:
    try:
        return await check(deployment)
    except Exception as error:
        return [
            Finding(
                check=check.__name__,
                severity=Severity.PROBLEM,
                what=f"could not be looked at: {reason(error)}",
                advice="look at what is said of the servers above",
            )
        ]


def _confirmed(first: Sequence[Finding], second: Sequence[Finding]) -> list[Finding]:
    """What is wrong in both looks; of the rows, those that are wrong in both."""
    kept = [finding for finding in second if not finding.lasting]
    for finding in second:
        before = [
            one for one in first if one.lasting and one.means == finding.means and one.severity == finding.severity
        ]
        if not finding.lasting or not before:
            continue
        ids = [one for one in finding.ids if any(one in earlier.ids for earlier in before)]
        if ids or not finding.ids:
            kept.append(replace(finding, ids=ids, what=finding.what.replace(named(finding.ids), named(ids))))
    return kept or [fine(second[0].check, "what was wrong at first sight passed by itself")]
