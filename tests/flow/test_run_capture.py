"""What a handler writes becomes lines of its job, whatever it is; outside of runs nothing changes."""

# ruff: noqa: T201 - prints are what this is about

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from taskflow.core.limits import LOG_LINE_BYTES
from taskflow.flow import capture

Line = tuple[str, str, dict[str, Any], str]


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@contextmanager
def installed() -> Iterator[io.StringIO]:
    """With capture around streams of our own: yields the one that stands for standard output."""
    stream, streams = io.StringIO(), (sys.stdout, sys.stderr)
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers[:] = []
    sys.stdout, sys.stderr = stream, io.StringIO()
    try:
        capture.install()
        yield stream
    finally:
        sys.stdout, sys.stderr = streams
        root.handlers[:] = handlers


@contextmanager
def run() -> Iterator[list[Line]]:
    """Within a run: yields its lines."""
    kept: list[Line] = []

    def emit(level: str, message: str, fields: Mapping[str, Any], source: str) -> None:
        kept.append((level, message, dict(fields), source))

    with installed():
        token = capture.current.set(emit)
        try:
            yield kept
        finally:
            capture.current.reset(token)


def test_outside_of_runs_streams_are_what_they_were() -> None:
    """Installed twice, they are wrapped once."""
    with installed() as outside:
        wrapped = sys.stdout
        capture.install()
        assert sys.stdout is wrapped
        print("to the terminal")
        sys.stdout.flush()
        assert outside.getvalue() == "to the terminal\n"
        assert sys.stdout.isatty() is False
        assert sys.stdout.writable()


def test_prints_are_lines_when_they_end() -> None:
    """In pieces or many at once; errors are warnings; the last piece ends with the run."""
    with run() as lines:
        print("a", end="")
        print("b")
        print("c\nd\n", end="")
        print("oops", file=sys.stderr)
        print("rest", end="")
        capture.flush_parts()
        assert lines == [
            ("info", "ab", {}, "stdout"),
            ("info", "c", {}, "stdout"),
            ("info", "d", {}, "stdout"),
            ("warning", "oops", {}, "stderr"),
            ("info", "rest", {}, "stdout"),
        ]


def test_a_line_without_an_end_is_cut_in_time() -> None:
    """No buffer grows for ever."""
    with run() as lines:
        for _ in range(40):
            print("x" * 1_000, end="")
        assert [len(message) for _, message, _, _ in lines] == [17_000, 17_000]


def test_logging_keeps_level_fields_and_traceback() -> None:
    """Fields are what `extra` holds."""
    with run() as lines:
        logger = logging.getLogger("mine")
        logger.warning("%d of %d", 1, 2, extra={"customer": 7})
        try:
            raise ValueError("bad")
        except ValueError:
            logger.exception("failed")
        assert lines[0] == ("warning", "1 of 2", {"customer": 7}, "mine")
        assert lines[1][0] == "error"
        assert lines[1][1].startswith("failed\nTraceback")
        assert lines[1][1].endswith("ValueError: bad")


def test_structlog_through_logging_keeps_its_fields() -> None:
    """The event is the message; what every line has anyway is no field."""
    with run() as lines:
        logger = structlog.wrap_logger(
            logging.getLogger("mine"),
            processors=[
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(),
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        logger.warning("building", customer=7)
        try:
            raise ValueError("bad")
        except ValueError:
            logger.exception("failed")
        assert lines[0] == ("warning", "building", {"customer": 7}, "mine")
        assert lines[1][1].startswith("failed\nTraceback")


def test_structlog_through_print_is_captured_too() -> None:
    """As text."""
    with run() as lines:
        logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[structlog.processors.KeyValueRenderer()])
        logger.info("building", customer=7)
        assert lines == [("info", "customer=7 event='building'", {}, "stdout")]


def test_a_log_call_that_is_wrong_does_not_raise() -> None:
    """It shows where it went wrong, as logging does."""
    with run() as lines:
        logging.getLogger("mine").warning("%d", "no number")
        assert any("Logging error" in message for _, message, _, _ in lines)


def test_a_line_is_one_json_object_with_an_instant() -> None:
    """UTC, in microseconds."""
    raw = capture.line(3, "info", "building", {"customer": 7, "when": None}, "ctx.log")
    assert raw.endswith(b"}\n")
    line = json.loads(raw)
    assert line.pop("ts")[19:20] == "."
    assert line == {
        "epoch": 3,
        "level": "info",
        "message": "building",
        "source": "ctx.log",
        "fields": {"customer": 7, "when": None},
    }


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("x" * 100_000, {}),
        ("\x01" * 100_000, {}),
        ("é" * 100_000, {"big": "é" * 100_000}),
        ("m", {f"k{n}": "v" * 5_000 for n in range(50)}),
        ("m", {"deep": [[[{"a": "b" * 100_000}]]]}),
        ("m", {"k" * 100_000: 1}),
        ("\0\ud800", {"\0\ud800": "\0\ud800"}),
        ("m", {"bytes": b"\xff", "set": {1}, "nan": float("nan"), "huge": 10**5_000, "thing": Unshowable()}),
        (Unshowable(), {"a": 1}),
        (12, {1: 2}),
    ],
)
def test_whatever_is_logged_is_one_line_of_bounded_length(message: Any, fields: Any) -> None:
    """Nothing is refused, nothing raises, and NUL and half surrogates become visible."""
    raw = capture.line(1, "info", message, fields, "ctx.log")
    assert len(raw) <= LOG_LINE_BYTES
    assert raw.count(b"\n") == 1
    line = json.loads(raw)
    text = json.dumps(line, ensure_ascii=False)
    assert "\0" not in text
    assert text.encode()
    if isinstance(message, str) and len(message) > LOG_LINE_BYTES:
        assert line["message"].endswith("…")
