"""The house keeps its own rules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import taskflow

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("taskflow/**/*.py"), *ROOT.glob("plugins/**/*.py")])
CORE = sorted(ROOT.glob("taskflow/core/**/*.py"))
TESTS = sorted(ROOT.glob("tests/**/*.py"))
LONGEST = 400
# Put together here, or this file would name them.
REGISTRIES = [
    "py" + "pi.org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "crates" + ".io",
    "deb" + ".debian.org",
    "security" + ".debian.org",
]


def name(path: Path) -> str:
    """A path as it is called from the root."""
    return str(path.relative_to(ROOT))


def named(tree: ast.AST) -> Iterator[str]:
    """Every name and attribute that code reads, under the name it was imported from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that code imports by an absolute name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_stay_small(path: Path) -> None:
    """A file can be read in one sitting."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_tests_name_no_sleep(path: Path) -> None:
    """They wait on facts, with a deadline."""
    assert "sleep" not in set(named(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_is_the_standard_library(path: Path) -> None:
    """Whatever gets installed one day, the rules of a job need none of it."""
    roots = {module.partition(".")[0] for module in imported(ast.parse(path.read_text(encoding="utf-8")))}
    assert roots - set(sys.stdlib_module_names) <= {"taskflow"}


def test_the_public_surface_is_what_is_exported() -> None:
    """`__all__` names every public thing of the package, and nothing else."""
    public = {
        name
        for name, value in vars(taskflow).items()
        if not name.startswith("_") and name != "annotations" and not isinstance(value, ModuleType)
    }
    assert set(taskflow.__all__) - {"__version__"} == public
    assert list(taskflow.__all__) == sorted(taskflow.__all__)


def test_no_registry_is_named() -> None:
    """Neither in code nor in locks: whoever installs brings their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / entry for entry in listed.stdout.split("\0") if entry]
    texts = {path: path.read_text(encoding="utf-8", errors="ignore") for path in paths if path.is_file()}
    assert ROOT / "requirements.lock" in texts
    assert [(name(path), host) for path, text in texts.items() for host in REGISTRIES if host in text] == []


def test_data_flows_one_way() -> None:
    """The contracts of the architecture hold."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
