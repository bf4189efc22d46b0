"""The log, as JSON lines; the logger is created once and passed on, without global state."""

import contextlib
import json
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self, TextIO

_LEVELS = ("debug", "info", "warning", "error", "critical")


class Logger:
    """Writes one line of JSON for each event.

    Of libraries for this, structlog alone takes a fifth of the start of a worker, as it imports rich.

    Args:
        stream: The stream to write to.
        level: Lowest level that is written: debug, info, warning, error or critical.
        fields: Fields of every line.
    """

    __slots__ = ("_fields", "_levels", "_stream")

    def __init__(self, stream: TextIO, level: str, fields: Mapping[str, Any]) -> None:
        self._stream = stream
        self._levels = _LEVELS[_LEVELS.index(level) :]
        self._fields = fields

    def bind(self, **fields: Any) -> Self:
        """Return a logger whose lines have more fields."""
        return type(self)(self._stream, self._levels[0], {**self._fields, **fields})

    def debug(self, event: str, **fields: Any) -> None:
        """Write what only helps to find a fault."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Write what happens as it should."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write what may need attention."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write what needs attention."""
        self._write("error", event, fields)

    def critical(self, event: str, **fields: Any) -> None:
        """Write what needs attention at once."""
        self._write("critical", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """Write an error with the traceback of the exception that is being handled, without local variables."""
        self._write("error", event, {**fields, "exception": traceback.format_exc().rstrip("\n")})

    def _write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        if level in self._levels:
            timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            first = {"timestamp": timestamp, "level": level, "event": event}
            write_line(self._stream, to_json({**first, **self._fields, **fields, **first}))


def make_logger(level: str, stream: TextIO | None = None, **bound: Any) -> Logger:
    """Return a logger.

    Args:
        level: Lowest level that is written: debug, info, warning, error or critical.
        stream: The stream to write to; by default standard output.
        bound: Fields of every line, such as the task's ARN.

    Example:
        >>> log = make_logger("info", task="a1b2")
        >>> log.bind(key="in/a.jsonl").info("started", bytes=5)  # doctest: +ELLIPSIS
        {"timestamp": "...Z", "level": "info", "event": "started", "task": "a1b2", "key": "in/a.jsonl", "bytes": 5}
    """
    return Logger(sys.stdout if stream is None else stream, level, bound)


def write_line(stream: TextIO, line: str) -> None:
    """Write a line with one call, so that lines of several threads do not mix.

    Errors of the stream are ignored: a job, and the heartbeat of its message, matter more than a line of a log.
    """
    with contextlib.suppress(OSError):
        stream.write(f"{line}\n")
        stream.flush()


def to_json(record: Mapping[str, object]) -> str:
    """Return the record as JSON on one line, in ASCII; values that JSON does not have become text."""
    try:
        return json.dumps(record, allow_nan=False, default=str)
    except (ValueError, TypeError, RecursionError):  # NaN; a key that is not a string; an object that contains itself
        return json.dumps({str(name): value if _is_json(value) else repr(value) for name, value in record.items()})


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return False
    return True
