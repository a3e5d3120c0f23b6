"""The files of compose/ are what an engine takes, and keep the house's rules. No engine is needed to see that."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow.core.durations import seconds
from taskflow.wiring.options import OPTIONS
from tests.compose.stack import (
    COMPOSE,
    FILES,
    ROOT,
    TAG,
    Image,
    Service,
    document,
    fits_the_specification,
    has_no_known_flaw,
    instructions,
    services,
)

SERVICES = [(path.stem, name) for path in FILES for name in services(path.stem)]


def ours() -> Iterator[tuple[str, Service]]:
    """Those that run TaskFlow."""
    for path in FILES:
        yield from ((f"{path.stem}: {name}", found) for name, found in services(path.stem).items() if "build" in found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_fits_the_specification(path: Path) -> None:
    """The schema that the Compose specification publishes."""
    fits_the_specification(path)


def test_the_dockerfile_has_no_known_flaw() -> None:
    """None is excused."""
    has_no_known_flaw(COMPOSE / "Dockerfile")


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_a_service_keeps_the_rules(file: str, name: str) -> None:
    """What it is made of is known, it can do little harm, only this machine reaches it, and it says whether it works."""
    service = services(file)[name]
    assert TAG.fullmatch(service["image"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    one_shot = service["restart"] == "no"
    assert one_shot or service["healthcheck"]["test"][0] == "CMD"
    waited_for = {
        how["condition"]
        for each in services(file).values()
        for of, how in each.get("depends_on", {}).items()
        if of == name
    }
    # Whoever waits for all of them knows a one-shot by that.
    assert waited_for <= {"service_completed_successfully" if one_shot else "service_healthy"}
    assert waited_for or not one_shot


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_what_a_service_names_is_there(file: str, name: str) -> None:
    """Volumes, directories and other services."""
    found = document(COMPOSE / f"{file}.yaml")
    service = found["services"][name]
    assert set(service.get("depends_on", {})) <= set(found["services"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (COMPOSE / source).is_dir() if source.startswith(".") else source in found["volumes"]
    for value in service.get("environment", {}).values():
        for host in re.findall(r"//(?:[^@/]*@)?(\w+):\d+", value):
            assert host in found["services"]


def test_our_containers_are_nobody_and_can_write_where_they_must() -> None:
    """All are one image, of this version, which runs as it is."""
    image = Image.read()
    assert all(
        TAG.fullmatch(rest.partition(" AS ")[0])
        for word, rest in instructions(COMPOSE / "Dockerfile")
        if word == "FROM"
    )
    user, group = map(int, image.user.split(":"))
    assert user >= 1_000
    assert group >= 1_000
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, service in ours():
        assert service["image"] == f"taskflow-orchestrator:{version}", name
        assert (COMPOSE / service["build"]["context"] / service["build"]["dockerfile"]).samefile(COMPOSE / "Dockerfile")
        assert "user" not in service, name
        places = dict(reversed(volume.split(":")[:2]) for volume in service["volumes"])
        assert not places[image.environment["TASKFLOW_DATA_DIR"]].startswith("."), name
        assert places[image.environment["PYTHONPATH"]] == "./tasks", name
        assert "/tmp" in service["tmpfs"], name


def test_each_variable_of_ours_is_a_setting() -> None:
    """One that is none would be refused at the start."""
    known = {option.env for option in OPTIONS.values()}
    for path in [*FILES, COMPOSE / "Dockerfile", COMPOSE / "tasks" / "README.md"]:
        assert set(re.findall(r"TASKFLOW_[A-Z_]+", path.read_text())) <= known, path


def test_a_stop_takes_no_longer_than_it_may() -> None:
    """Runs get their time, and their endings are written."""
    for name, service in ours():
        assert seconds(service["stop_grace_period"]) >= OPTIONS["consumer.graceful"].default + 10, name


def test_the_single_container_is_kept_as_each_of_the_others() -> None:
    """The two files say the same of what they have in common."""
    same = ["image", "build", "init", "tmpfs", "healthcheck", "stop_grace_period", "restart", "ports"]
    one, api = services("single")["taskflow"], services("compose")["api"]
    assert {key: one[key] for key in same} == {key: api[key] for key in same}
    assert api["ports"] == [f"127.0.0.1:8000:{OPTIONS['api.port'].default}"]


def test_the_image_is_made_of_what_is_let_in(tmp_path: Path) -> None:
    """The wheel can be built of it; nothing else leaves this directory."""
    copied = [rest.split() for word, rest in instructions(COMPOSE / "Dockerfile") if word == "COPY"]
    sources = {source for words in copied if not words[0].startswith("--from") for source in words[:-1]}
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored == ["*", *sorted(f"!{source}" for source in sources), "**/__pycache__"]
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "dist").glob("*.whl"))
