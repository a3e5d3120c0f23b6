"""What docs/how-to/deployment.md shows and nobody here can run is looked at: files for an engine, a unit, and the secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from taskflow.wiring import settings
from taskflow.wiring.options import OPTIONS
from tests.compose.stack import (
    COMPOSE,
    TAG,
    Image,
    document,
    fits_the_specification,
    has_no_known_flaw,
    instructions,
    services,
)
from tests.docs.snippets import FILE, ROOT, Reader, blocks

PAGE = ROOT / "docs/how-to/deployment.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the files of the page, those that its commands make included."""
    directory = tmp_path_factory.mktemp("page")
    with Reader(directory) as reader:
        for block in blocks(PAGE):
            if FILE.search(block.words) or "compose/.env" in block.text:
                reader.follow(block)
        yield directory


def test_overlays_fit(written: Path) -> None:
    """They are Compose files, change services that are there or bring their image, and name settings that exist."""
    known = {option.env for option in OPTIONS.values()}
    overlays = sorted((written / "compose").glob("*.yaml"))
    assert [path.name for path in overlays] == ["mine.yaml", "tls.yaml"]
    for path in overlays:
        fits_the_specification(path)
        for name, service in document(path)["services"].items():
            assert name in services("compose") or "image" in service
            assert "image" not in service or TAG.fullmatch(service["image"])
            assert {key for key in service.get("environment", {}) if key.startswith("TASKFLOW_")} <= known


def test_an_image_of_ones_own_is_made_of_ours(written: Path) -> None:
    """It finds the modules, and is nobody again at the end."""
    dockerfile = written / "compose" / "mytasks" / "Dockerfile"
    has_no_known_flaw(dockerfile)
    told = dict(instructions(dockerfile))
    assert told["FROM"] == services("compose")["consumer"]["image"]
    assert told["USER"] == Image.read().user
    assert told["ENV"] == f"PYTHONPATH={told['COPY'].split()[-1].rstrip('/')}"
    build = document(written / "compose" / "mine.yaml")["services"]["consumer"]["build"]
    assert (written / "compose" / build["context"] / build["dockerfile"]) == dockerfile


def test_the_secrets_are_used(written: Path) -> None:
    """Each one, and the API asks for its key then."""
    lines = (written / "compose" / ".env").read_text().split()
    secrets = dict(line.split("=") for line in lines)
    used = set(re.findall(r"\$\{(\w+):-", (COMPOSE / "compose.yaml").read_text()))
    assert secrets.keys() == used
    told = services("compose", **secrets)
    loaded = settings.load("run", {"roles": "api"}, told["api"]["environment"], None)
    assert loaded["api.keys"] == (secrets["TASKFLOW_API_KEYS"],)
    assert secrets["POSTGRES_PASSWORD"] in loaded["store.url"]
    assert told["postgres"]["environment"]["POSTGRES_PASSWORD"] == secrets["POSTGRES_PASSWORD"]
    assert told["consumer"]["environment"]["TASKFLOW_TASKS_MODULES"] == "mytasks"


def test_the_unit_gives_runs_their_time(written: Path) -> None:
    """And starts what there is."""
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(written / "taskflow@.service")
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) >= OPTIONS["consumer.graceful"].default + 10
    assert service["ExecStart"].split()[1:] == ["run", "--roles", "%i"]
