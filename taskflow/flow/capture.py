"""What a handler writes becomes lines of its own job: ctx.log, logging, structlog, print."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson

from taskflow.core.limits import LOG_LINE_BYTES
from taskflow.tasks import jsontext

Emit = Callable[[str, str, Mapping[str, Any], str], None]
"""(level, message, fields, source) of one line."""

current: ContextVar[Emit | None] = ContextVar("taskflow_emit", default=None)
"""Takes the lines of the run that this code belongs to."""

_FIELD_CHARACTERS: Final = 8_000
_NO_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "level", "logger", "timestamp",
}  # fmt: skip


def line(epoch: int, level: str, message: str, fields: Mapping[str, Any], source: str) -> bytes:
    """One line as NDJSON, 16 KiB at most; whatever cannot be kept is made visible instead of refused."""
    room = LOG_LINE_BYTES - 512
    record: dict[str, Any] = {
        "ts": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "epoch": epoch,
        "level": level,
        "message": _short(_text(message), room),
        "source": _short(source, 200),
    }
    if fields:
        record["fields"] = {_short(_text(key), 200): _field(value) for key, value in fields.items()}
    text = orjson.dumps(record) + b"\n"
    if len(text) > LOG_LINE_BYTES:
        record.pop("fields", None)
        record["message"] = _short(_text(message), room // 6)
        record["cut"] = True
        text = orjson.dumps(record) + b"\n"
    return text


def install() -> None:
    """Capture logging and the standard streams of this process; code outside of runs writes where it always did."""
    root = logging.getLogger()
    if not any(isinstance(handler, RunHandler) for handler in root.handlers):
        root.addHandler(RunHandler())
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, RunStream):
            setattr(sys, name, RunStream(stream, name))


class RunHandler(logging.Handler):
    """Sends a handler's log records to its run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; never raises into the code that logs."""
        emit = current.get()
        if emit is None:
            return
        try:
            message, fields = _said(record)
            if record.exc_info and record.exc_info[0]:
                message += "\n" + logging.Formatter().formatException(record.exc_info)
            emit(record.levelname.lower(), message, fields, record.name)
        except Exception:
            self.handleError(record)


class RunStream(io.TextIOBase):
    """A standard stream: inside of a run its lines are the run's, elsewhere it is what it was."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._parts: ContextVar[str] = ContextVar(f"taskflow_{name}", default="")

    def write(self, text: str) -> int:
        """Write to the run, or through."""
        emit = current.get()
        if emit is None:
            return self._stream.write(text)
        level = "info" if self._name == "stdout" else "warning"
        *lines, rest = (self._parts.get() + text).split("\n")
        if len(rest) > LOG_LINE_BYTES:
            lines.append(rest)
            rest = ""
        self._parts.set(rest)
        for whole in lines:
            emit(level, whole, {}, self._name)
        return len(text)

    def flush(self) -> None:
        """Flush what is not a run's."""
        if current.get() is None:
            self._stream.flush()

    def isatty(self) -> bool:
        """As the stream itself."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """As the stream itself."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Yes."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As the stream itself."""
        return self._stream.encoding

    def __getattr__(self, name: str) -> Any:
        """What else the stream has, such as `buffer`: bytes written there are nobody's lines."""
        return getattr(self._stream, name)


def raw(_level: str, message: str, *_: object) -> None:
    """Write a line of a copy of this process, which must not use what it shares with the original."""
    os.write(2, f"{_short(_text(message), LOG_LINE_BYTES - 512)}\n".encode())


def flush_parts() -> None:
    """End unfinished lines of the present run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, RunStream) and stream._parts.get():  # noqa: SLF001 - its own module
            stream.write("\n")


def _said(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Message and fields: of `extra`, or of the event that structlog hands to logging."""
    if isinstance(record.msg, dict) and "event" in record.msg:
        event: dict[str, Any] = {str(key): value for key, value in record.msg.items()}
        message = _text(event.pop("event"))
        error = event.pop("exc_info", None)
        if isinstance(error, BaseException):
            error = (type(error), error, error.__traceback__)
        elif error and not isinstance(error, tuple):
            error = sys.exc_info()
        if isinstance(error, tuple) and error[0]:
            message += "\n" + logging.Formatter().formatException(error)
        given = event
    else:
        message, given = record.getMessage(), vars(record)
    return message, {key: value for key, value in given.items() if key not in _NO_FIELDS and not key.startswith("_")}


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"(cannot be shown: {type(error).__name__})"


def _short(text: str, most: int) -> str:
    text = jsontext.escaped(text)
    if len(text) <= most // 4 or len(text.encode()) <= most:
        return text
    return text.encode()[:most].decode("utf-8", "ignore") + "…"


def _field(value: Any) -> Any:
    try:
        text = jsontext.dumps(value)
    except Exception:
        try:
            return _short(repr(value), _FIELD_CHARACTERS)
        except Exception as error:
            return f"(cannot be shown: {type(error).__name__})"
    return orjson.Fragment(text) if len(text) <= _FIELD_CHARACTERS else _short(text, _FIELD_CHARACTERS)


def _forked() -> None:
    if current.get() is not None:
        current.set(raw)


os.register_at_fork(after_in_child=_forked)
