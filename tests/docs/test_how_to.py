"""Each how-to works as it is written, in its order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.snippets import ROOT, Reader, blocks

PAGES = sorted((ROOT / "docs/how-to").glob("*.md"))


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
