"""The README works as it is written, in its order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.system import embedded

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SERVERS = "export TASKFLOW_STORE_URL"
BIN = str(Path(sys.executable).parent)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def shell(command: str, directory: Path, port: int, **environment: str) -> str:
    """Run a block with the README's address and paths put in their place."""
    command = command.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace(".venv/bin/", f"{BIN}/")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TASKFLOW_URL": f"http://127.0.0.1:{port}", **environment},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_first_task_and_its_test(tmp_path: Path) -> None:
    """Both Python blocks run, the second finding the first as mytasks.py."""
    mytasks, test = blocks("python")
    (tmp_path / "mytasks.py").write_text(mytasks)
    (tmp_path / "check.py").write_text(test)
    subprocess.run([sys.executable, "check.py"], cwd=tmp_path, check=True, timeout=60)


def test_the_commands_in_their_order(tmp_path: Path) -> None:
    """Submit, wait, read the log; the command line; the first task of one's own."""
    commands = blocks("sh")
    assert "make dev" in commands[0]
    assert "make test" in commands[0]
    (tmp_path / "mytasks.py").write_text(blocks("python")[0])
    with embedded(tmp_path, TASKFLOW_TASKS_MODULES="taskflow.demo,mytasks") as system:
        system.start()
        ran = 0
        job_id = ""
        for block in commands[1:]:
            if SERVERS in block:
                continue
            command = "\n".join(line for line in block.splitlines() if "taskflow dev" not in line)
            output = shell(command, tmp_path, system.port, ID=job_id)
            if "curl -s -X POST" in block:
                job_id = json.loads(output)["id"]
            elif "Prefer" in block:
                assert '"state":"succeeded"' in output
            ran += 1
        assert ran >= 4
        [mine] = system.http.get("/jobs", params={"task": "mail.welcome"}).json()["items"]
        assert system.job(mine["id"], wait=10)["state"] == "succeeded"


def test_the_settings_for_real_servers_are_accepted(tmp_path: Path) -> None:
    """As they are written; the acceptance suite runs the product on them."""
    [block] = [text for text in blocks("sh") if SERVERS in text]
    exports, verbs = block.split("make migrate")
    assert "taskflow run" in verbs
    key = tmp_path / "s3"
    key.write_text("secret\n")
    (tmp_path / "mytasks.py").write_text(blocks("python")[0])
    command = exports.replace("/run/secrets/s3", str(key)) + "\n.venv/bin/taskflow config check"
    shell(command, tmp_path, 8000)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To files that are there."""
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target
