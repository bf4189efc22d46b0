"""Lines whose transformation is plain to see, so that what has to come out can be written down without the engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import polars as pl

from transform import Calculation

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

    from tests.conftest import Start
    from tests.support.places import Place

CALCULATION = Calculation.from_sql("a + 1 AS b").with_schema({"a": pl.Int64()})
ARGUMENTS = ("-q", "-e", "a + 1 AS b", "--schema", "a=Int64")
"""The same for the command, without a summary: what it then says is an error."""

WAIT_TIMEOUT_S = 30


def lines(count: int, pad_bytes: int = 0, first: int = 0) -> bytes:
    """Return lines to be transformed, numbered from `first` on."""
    pad = b"x" * pad_bytes
    return b"".join(b'{"a":%d,"pad":"%b"}\n' % (number, pad) for number in range(first, first + count))


def transformed(count: int, pad_bytes: int = 0, first: int = 0) -> bytes:
    """Return what `CALCULATION` makes of such lines."""
    pad = b"x" * pad_bytes
    return b"".join(
        b'{"a":%d,"pad":"%b","b":%d}\n' % (number, pad, number + 1) for number in range(first, first + count)
    )


def wait_until(happened: Callable[[], object]) -> None:
    """Return once something has happened; fail if it doesn't."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(0.01)


BIG = lines(2500, 8000)
"""More than a part of a multipart upload, which has 16 MiB, and a chunk, which has 2 MiB."""

BIG_TRANSFORMED = transformed(2500, 8000)


def held(start: Start, place: Place, number: int = 1) -> Popen[bytes]:
    """Start a run that has written a part of its output and waits for more input; it is the `number`th to do so."""
    # With more workers it would keep some chunks back, so as to put their results in order.
    process = start("run", "-", place.target, "--workers", 1, *ARGUMENTS)
    assert process.stdin
    process.stdin.write(BIG)
    process.stdin.flush()
    wait_until(lambda: place.begun() == number)
    return process
