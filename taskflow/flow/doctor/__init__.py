"""The doctor: looks at a deployment from outside, says what is wrong, and mends what can be mended safely."""

from taskflow.flow.doctor.deployment import Check, Deployment, Life
from taskflow.flow.doctor.findings import Finding, Repair, Severity, fine
from taskflow.flow.doctor.rounds import CHECKS, examine, repair
from taskflow.flow.doctor.servers import unanswered

__all__ = [
    "CHECKS",
    "Check",
    "Deployment",
    "Finding",
    "Life",
    "Repair",
    "Severity",
    "examine",
    "fine",
    "repair",
    "unanswered",
]
