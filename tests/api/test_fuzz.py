"""schemathesis over the whole description, against the API in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

SECONDS = float(os.environ.get("TASKFLOW_TEST_FUZZ_SECONDS", "20"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
CONFIG = """\
[dictionaries.jobs]
values = {ids}
[dictionaries.names]
values = ["default"]
[parameters]
"path.id" = {{ dictionary = "jobs", probability = 0.7 }}
"path.name" = {{ dictionary = "names", probability = 0.7 }}

# A wrong item of a batch is told in its own outcome.
[[operations]]
include-path = "/api/v1/jobs/batch"
checks.negative_data_rejection.expected-statuses = ["207", "4xx"]
"""


@pytest.mark.slow
def test_no_input_makes_a_5xx_or_an_undescribed_answer(served: str, tmp_path: Path) -> None:
    """For so many seconds; waits are capped by the server, the rate limit is off."""
    jobs = httpx2.get(f"{served}/api/v1/jobs").json()["items"]
    (tmp_path / "schemathesis.toml").write_text(CONFIG.format(ids=[job["id"] for job in jobs]))
    done = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            "run",
            f"{served}/openapi.json",
            f"--checks={','.join(CHECKS)}",
            "--phases=examples,coverage,fuzzing",
            f"--max-time={SECONDS:g}",
            "--workers=1",
            "--continue-on-failure",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert "tested" in done.stdout.lower(), done.stdout[-2_000:]
