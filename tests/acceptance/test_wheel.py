"""The wheel is the whole product: it runs a job from an empty environment, far from the repository."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import httpx2

from tests.support import until_sync
from tests.throwaway import free_ports

ROOT = Path(__file__).parents[2]


def test_the_wheel_runs_a_job_from_elsewhere(tmp_path: Path) -> None:
    """Built, installed into a fresh venv beside its dependencies' files, started: migrations are found, one job is done."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    environment = tmp_path / "venv"
    venv.create(environment)
    python = environment / "bin" / "python"
    installed = subprocess.run(
        [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--require-hashes",
            "-r",
            ROOT / "requirements.lock",
        ],
        capture_output=True,
        text=True,
    )
    assert installed.returncode == 0, installed.stderr
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--no-deps", wheel], check=True
    )
    [port] = free_ports(1)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TASKFLOW_", "PYTHON"))}
    home = tmp_path / "elsewhere"
    home.mkdir()
    output = (home / "output").open("wb")
    process = subprocess.Popen(
        [environment / "bin" / "taskflow", "dev", "--port", str(port)],
        cwd=home,
        env=clean,
        stdout=output,
        stderr=output,
    )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as http:

            def ready() -> bool:
                assert process.poll() is None, (home / "output").read_text()
                try:
                    return http.get("/health/ready").status_code == 200
                except httpx2.TransportError:
                    return False

            until_sync(ready, 30)
            job = http.post("/jobs", json={"task": "demo.words", "payload": {"text": "a b a"}}).json()
            done = http.get(f"/jobs/{job['id']}", headers={"Prefer": "wait=20"}).json()
            assert done["result"]["words"] == 3
            where = subprocess.run(
                [python, "-c", "from taskflow.adapters.sql import schema; print(schema.location())"],
                cwd=home,
                env=clean,
                capture_output=True,
                text=True,
                check=True,
            )
            assert str(environment) in where.stdout
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        output.close()
