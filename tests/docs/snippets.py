"""The code on a page of the docs, run as a reader runs it: top down, in one directory and one shell.

What a fence says: `python title="mytasks.py"` is a file, and so is whatever else has a title; other `python` is a program, `sh` is typed
into a shell, `text` is what the block above printed, with other lines around. A word after `sh` asks for more: `real` for the four
servers, `docker` for a container engine, which nobody has here: those are left out, and test_how_to.py knows how many there are.
Whatever else a fence says is refused: nobody would run it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.acceptance.cluster import Cluster, Node, bare
from tests.acceptance.system import embedded
from tests.support import FULL, until_sync

ROOT: Final = Path(__file__).parents[2]
BIN: Final = str(Path(sys.executable).parent)
ADDRESS: Final = "127.0.0.1:8000"
FENCE: Final = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER: Final = re.compile(r"^\S*taskflow dev(?: --tasks (?P<tasks>\S+))?$", re.MULTILINE)
ROLE: Final = re.compile(r"^\S*taskflow run(?: .*)?$", re.MULTILINE)
DOCKER: Final = "docker"
FILE: Final = re.compile(r'title="(?:~/)?([\w./@-]+)"')


class Block(NamedTuple):
    """A fence of a page.

    Attributes:
        line: where it begins, from 1.
        words: what stands after the language.
    """

    line: int
    language: str
    words: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The fences of a page in their order."""
    source = page.read_text()
    for match in FENCE.finditer(source):
        yield Block(source.count("\n", 0, match.start()) + 1, match[1], match[2].strip(), match[3])


class Reader:
    """Somebody with a terminal, an empty directory and TaskFlow installed.

    Args:
        directory: theirs.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._open = ExitStack()
        self._port = 0
        self._printed = ""
        self._variables = directory / ".variables"
        self._variables.touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def follow(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            AssertionError: it does not work as it is written.
        """
        match block.language, block.words:
            case _, words if named := FILE.search(words):
                file = self.directory / named[1]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text)
            case "python", "":
                self._printed = self._ran([sys.executable, "-c", block.text])
            case "sh", words if words == DOCKER:
                pass
            case "sh", "real":
                self._serve_for_real(block.text)
            case "sh", "" if match := SERVER.search(block.text):
                self._serve(match["tasks"])
            case "sh", "":
                self._printed = self._typed(block.text)
            case "text", "":
                self._compare(block.text)
            case language, words:
                raise AssertionError(f"nobody runs blocks of {language!r} with {words!r}")

    def _serve(self, tasks: str | None) -> None:
        """`taskflow dev` on a free port, while the page lasts."""
        modules = ",".join(filter(None, ["taskflow.demo", tasks]))
        system = self._open.enter_context(embedded(self.directory, TASKFLOW_TASKS_MODULES=modules))
        self._port = system.start().port

    def _serve_for_real(self, text: str) -> None:
        """`taskflow run …` on the four servers until it works, and a stop."""
        [command] = ROLE.findall(text)
        roles = match[1] if (match := re.search(r"--roles (\S+)", command)) else "api,consumer,scheduler"
        with Cluster(self.directory) as cluster:
            node = Node(roles, self._placed(command).split(), {**cluster.environment, **self._free()}, self.directory)
            node.start()
            try:
                until_sync(lambda: node.started or not node.runs, 40)
                assert node.started, node.output
                assert node.stop() == 0, node.output
            finally:
                if node.runs:
                    node.kill()

    def _typed(self, text: str) -> str:
        """A block in a shell that knows the variables of the blocks before."""
        keep = f'export -p >"{self._variables}"'
        return self._ran(
            ["bash", "-euo", "pipefail", "-c", f'. "{self._variables}"; set -a; {self._placed(text)}\n{keep}']
        )

    def _ran(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**bare(), "PYTHONPATH": str(self.directory), "TASKFLOW_URL": f"http://127.0.0.1:{self._port}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def _compare(self, text: str) -> None:
        printed = " ".join(self._printed.split())
        for line in text.splitlines():
            assert " ".join(line.split()) in printed, f"{line!r} is not in:\n{self._printed}"

    def _placed(self, text: str) -> str:
        """With the address and the paths of this run."""
        text = text.replace(ADDRESS, f"127.0.0.1:{self._port}").replace(".venv/bin/", f"{BIN}/")
        text = text.replace(" bench/", f" {ROOT}/bench/").replace(" ~/", f" {self.directory}/")
        return text if FULL else text.replace(" -t 60s", " -t 3s")

    @staticmethod
    def _free() -> dict[str, str]:
        return {"TASKFLOW_API_PORT": "0", "PATH": os.environ["PATH"]}
