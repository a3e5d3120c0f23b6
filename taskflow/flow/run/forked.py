"""Copies of this process that a handler forks: what they do is theirs, but none of them gets back into our code.

A copy shares the loop's descriptors and the pipes: it would take the events of others, and write for them.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import util
from types import CodeType, FrameType
from typing import Any

generation = 0
"""How often this process was forked before it came to be; asking the system for its id would cost more."""
_outermost: set[CodeType] = set()
_spared: set[CodeType] = set()


def end_copy(origin: int, error: BaseException | None = None) -> None:
    """End this process at once if it is a copy: no buffer is flushed twice, and nothing of the original's is closed.

    Args:
        origin: the generation that called the handler.
        error: what the handler raised; a `SystemExit` gives the status.
    """
    if generation == origin:
        return
    status = int(error is not None)
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        status = (error.code or 0) & 255
    os._exit(status)


def guard(outermost: CodeType, returning: CodeType) -> None:
    """Have copies end that give the control back to a loop.

    Args:
        outermost: of the function that runs the loop.
        returning: of the function that calls handlers which never do, and that looks after their copies itself.
    """
    _outermost.add(outermost)
    _spared.add(returning)


def _forked() -> None:
    global generation  # noqa: PLW0603 - it is the process's
    generation += 1
    inner: FrameType | None = None
    step: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no other way
    while frame is not None and frame.f_code not in _outermost:
        if frame.f_code in _spared:
            return
        inner, step, frame = frame, inner, frame.f_back
    # The outermost function calls `Runner.run`, and that the step of a task, or the callback, which forked.
    if frame is None or step is None:
        return

    def watch(left: FrameType, event: str, _: Any) -> None:
        if left is step and event == "return":
            os._exit(0)

    # A coroutine that is suspended is left as one that returns is. Only the copy is slowed down by this.
    sys.setprofile(watch)


def _ends_by_itself(_: object) -> None:
    """A process of multiprocessing does, behind its target, which may be long."""
    if getattr(sys.getprofile(), "__module__", None) == __name__:
        sys.setprofile(None)


os.register_at_fork(after_in_child=_forked)
util.register_after_fork(_outermost, _ends_by_itself)
