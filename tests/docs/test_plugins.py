"""The plug-in of docs/plugins.md, written and installed as the page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.snippets import BIN, ROOT, Reader, blocks

PAGE = ROOT / "docs/plugins.md"


class Author(Reader):
    """Somebody whose environment is a directory of his own: nothing is left in that of the tests."""

    def _placed(self, text: str) -> str:
        where = f"--target {self.directory} {self.directory}/taskflow-files"
        install = f"{BIN}/uv pip install -q --python {sys.executable} --no-deps --no-build-isolation {where}"
        return super()._placed(text).replace(f"{BIN}/python -m pip install -e {self.directory}/taskflow-files", install)


def test_it_works_as_it_is_written(tmp_path: Path) -> None:
    """Two files, an installation, and the suite of the port passes."""
    with Author(tmp_path) as author:
        for block in blocks(PAGE):
            try:
                author.follow(block)
            except Exception as error:
                error.add_note(f"{PAGE.relative_to(ROOT)}, line {block.line}")
                raise


@pytest.mark.parametrize("plugin", ["taskflow-nats", "taskflow-memcached"])
def test_the_plug_ins_beside_it_are_named(plugin: str) -> None:
    """And are there."""
    assert f"plugins/{plugin}" in PAGE.read_text()
    assert (ROOT / "plugins" / plugin / "pyproject.toml").exists()
