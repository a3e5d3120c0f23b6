"""The registry: what the named modules declare. Nothing is registered by import alone."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from taskflow.core.errors import TaskFlowError
from taskflow.core.job import RunsIn
from taskflow.tasks.declare import BadTask, Lifespan, Task


class CannotLoad(TaskFlowError):
    """A module of tasks cannot be imported, or declares what cannot be run."""


class UnknownTask(TaskFlowError):
    """No such task is registered here."""


class Registry:
    """Tasks by name, and the lifespans of their modules."""

    def __init__(
        self, tasks: Iterable[Task[..., Any]], lifespans: Iterable[Lifespan] = (), modules: Sequence[str] = ()
    ) -> None:
        found: dict[str, Task[..., Any]] = {}
        for task in tasks:
            other = found.setdefault(task.name, task)
            if other is not task:
                raise CannotLoad(
                    f"the task {task.name!r} is declared twice: by {other.function.__module__} and by "
                    f"{task.function.__module__}; rename one"
                )
        self.tasks: Mapping[str, Task[..., Any]] = MappingProxyType(dict(sorted(found.items())))
        self.lifespans = tuple(lifespans)
        self.modules = tuple(modules)

    @classmethod
    def load(cls, modules: Sequence[str]) -> Registry:
        """Import modules and collect the tasks and lifespans that are their attributes.

        The working directory is importable, so that `--tasks mytasks` finds `mytasks.py` beside the user.

        Raises:
            CannotLoad: a module cannot be imported or a declaration is wrong; says which.
        """
        _look_here()
        tasks: dict[int, Task[..., Any]] = {}
        lifespans: dict[int, Lifespan] = {}
        for name in modules:
            for thing in vars(_imported(name)).values():
                if isinstance(thing, Task):
                    tasks[id(thing)] = thing
                elif isinstance(thing, Lifespan):
                    lifespans[id(thing)] = thing
        registry = cls(tasks.values(), lifespans.values(), modules)
        for task in registry.tasks.values():
            try:
                _ = task.info
            except BadTask as error:
                raise CannotLoad(str(error)) from error
        return registry

    def get(self, name: str) -> Task[..., Any]:
        """A task by name.

        Raises:
            UnknownTask: there is none; names the nearest.
        """
        try:
            return self.tasks[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.tasks, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownTask(f"no task {name!r} is registered here{hint}") from None

    def by_kind(self, kind: RunsIn) -> list[Task[..., Any]]:
        """Tasks whose runs use slots of a kind."""
        return [task for task in self.tasks.values() if task.runs_in is kind]


def not_found(modules: Iterable[str]) -> list[str]:
    """Those of the modules whose top package is nowhere. None of them is run for it."""
    _look_here()
    return [name for name in modules if not _is_there(name.partition(".")[0])]


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        # No name at all; or a module that is loaded, and tells nothing of where it came from.
        return package in sys.modules


def _look_here() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise CannotLoad(f"cannot import the tasks module {name!r}: {type(error).__name__}: {error}") from error
