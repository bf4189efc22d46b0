"""The log, as JSON lines; the logger is created once and passed on, without global state."""

import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import FilteringBoundLogger

_FIRST = ("timestamp", "level", "event")


def make_logger(level: str, stream: TextIO | None = None, **bound: Any) -> FilteringBoundLogger:
    """Return a logger that writes one line of JSON for each event.

    Args:
        level: Lowest level that is written: debug, info, warning, error or critical.
        stream: The stream to write to; by default standard output.
        bound: Fields of every line, such as the task's ARN.

    Example:
        >>> log = make_logger("info", task="a1b2")
        >>> log.bind(key="in/a.jsonl").info("started", bytes=5)  # doctest: +ELLIPSIS
        {"timestamp": "...Z", "level": "info", "event": "started", "task": "a1b2", "key": "in/a.jsonl", "bytes": 5}
    """
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Lines(sys.stdout if stream is None else stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,  # as text: structured tracebacks would show local variables
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
        cache_logger_on_first_use=True,
        **bound,
    )
    return logger


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


class _Lines:
    """The output of structlog."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        write_line(self._stream, line)

    debug = info = warning = error = critical = msg


def _render(_logger: object, _method: str, record: Any) -> str:
    first = {name: record.pop(name) for name in _FIRST if name in record}
    return to_json({**first, **record})
