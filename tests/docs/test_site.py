"""The pages as a site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.snippets import ROOT

PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It was built, and a warning would have ended that."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(directory)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return directory


def test_every_page_has_its_place(site: Path) -> None:
    """In the menu, too."""
    told = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        assert str(page) in told, f"{page} is not in the menu of mkdocs.yml"
        place = page.parent if page.stem == "index" else page.with_suffix("")
        assert (site / place / "index.html").exists()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """No script, style, font or picture."""
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|link)[^>]+(?:src|href)=\"(https?:[^\"]+)", page.read_text())
        assert fetched == [], page


def test_links_to_code_are_words(site: Path) -> None:
    """There is none beside the site."""
    text = (site / "way-of-a-job" / "index.html").read_text()
    assert not any("core/job.py" in link for link in re.findall(r"href=\"([^\"]+)", text))
    assert "core/job.py" in text
