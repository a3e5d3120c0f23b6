"""Each how-to works as it is written, in its order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.docs.snippets import DOCKER, ROOT, Reader, blocks

PAGES = sorted((ROOT / "docs/how-to").glob("*.md"))
NOT_RUN = {"docs/how-to/deployment.md": 9}
"""How many blocks of a page need a container engine."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_it_works_as_it_is_written(page: Path, tmp_path: Path) -> None:
    """Files, commands and what they print."""
    with Reader(tmp_path) as reader:
        for block in blocks(page):
            try:
                reader.follow(block)
            except Exception as error:
                error.add_note(f"{page.relative_to(ROOT)}, line {block.line}")
                raise


def test_no_other_block_is_left_out() -> None:
    """Than those that are known to need a container engine."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    left_out = Counter(str(page.relative_to(ROOT)) for page in pages for block in blocks(page) if block.words == DOCKER)
    assert left_out == NOT_RUN
