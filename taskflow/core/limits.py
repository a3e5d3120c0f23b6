"""Constants of DESIGN that no setting changes, and the grammar of names."""

from __future__ import annotations

import re
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
PAYLOAD_BYTES: Final = 1 << 20
RESULT_BYTES: Final = 1 << 20
BODY_BYTES: Final = (1 << 20) + (64 << 10)
BATCH_BODY_BYTES: Final = 16 << 20
BATCH_JOBS: Final = 1_000
ERROR_BYTES: Final = 16 << 10
LOG_LINE_BYTES: Final = 16 << 10
JSON_DEPTH: Final = 64
HORIZON_SECONDS: Final = 5 * 366 * 86_400
TIMEOUT_SECONDS: Final = 3_600.0
TIMEOUT_SECONDS_MAX: Final = 86_400.0
ATTEMPTS: Final = 5
ATTEMPTS_MAX: Final = 1_000
INTERRUPTIONS_MAX: Final = 50
SNOOZES_MAX: Final = 1_000
CRASHES_MAX: Final = 50
CRASHES_BEFORE_ISOLATION: Final = 2
DEADLINE_SLACK_SECONDS: Final = 30.0
LEASE_SECONDS_MIN: Final = 1.0
LEASE_SECONDS_MAX: Final = 3_600.0
SWEEP_SECONDS_MAX: Final = 5.0
IDEMPOTENCY_SECONDS: Final = 86_400.0
RETENTION_SECONDS: Final = 30 * 86_400.0
TICKETS_SHARED: Final = 256
DEFAULT_TENANT: Final = "default"
DEFAULT_QUEUE: Final = "default"
DEFAULT_PRIORITY: Final = 5


def is_name(text: str) -> bool:
    """Whether `text` may name a task, a queue or a tag."""
    return NAME.fullmatch(text) is not None
