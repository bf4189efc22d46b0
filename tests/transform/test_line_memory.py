"""One line takes at most eight times its size in memory, whatever it holds and whatever is done with it.

Child processes run a calculation on lines of two sizes; what the second one needs more, by the bytes that it has more,
is the cost of a byte. So neither the libraries nor the chunks of short lines count.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import environment_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_FACTOR = 8
SIZES = (8 << 20, 16 << 20)


def repeated(start: bytes, piece: bytes, end: bytes) -> Callable[[int], bytes]:
    return lambda size: start + piece * ((size - len(start) - len(end)) // len(piece)) + end


LINES: dict[str, Callable[[int], bytes]] = {
    "one name again and again": repeated(b'{"v":1', b',"a":1', b"}"),
    "dropped and kept by turns": repeated(b'{"v":1', b',"a":1,"":1', b"}"),
    "many names": lambda size: b'{"v":1%b}' % b"".join(b',"%07d":1' % number for number in range(size // 12)),
    "names with escapes": repeated(b'{"v":1', b',"\\u0061":1,"b":2', b"}"),
    "numbers": repeated(b'{"v":1,"a":[1', b",1", b"]}"),
    "brackets": repeated(b'{"v":1,"a":[[]', b",[]", b"]}"),
    "brackets, deep": repeated(b'{"v":1,"a":[1', b"," + b"[" * 400 + b"]" * 400, b"]}"),
    "brackets in a string": repeated(b'{"v":1,"a":"', b"[{", b'"}'),
    "quotes": repeated(b'{"v":1,"a":[""', b',""', b"]}"),
    "escapes": repeated(b'{"v":1,"a":"', b"\\n", b'"}'),
    "escaped quotes": repeated(b'{"v":1,"a":"', b'\\"', b'"}'),
    "backslashes": repeated(b'{"v":1,"a":"', b"\\\\", b'"}'),
    "one string": repeated(b'{"v":1,"a":"', b"x", b'"}'),
    "one string, one emoji": repeated(b'{"v":1,"a":"\xf0\x9f\x98\x80', b"x", b'"}'),
    "lone surrogates": repeated(b'{"v":1,"a":"', b"\\ud83d", b'"}'),
    "one lone surrogate": repeated(b'{"v":1,"a":"\\ud83d', b"x", b'"}'),
    "white space": repeated(b'{"v":1', b" ", b"}"),
    "white space before": repeated(b"", b" ", b'{"v":1,"a":2}'),
}
REJECTED: dict[str, Callable[[int], bytes]] = {
    "too deep": repeated(b'{"v":1,"a":', b"[", b"}"),
    "not UTF-8": repeated(b'{"v":1,"a":"\xff', b"x", b'"}'),
    "not UTF-8 at its end": repeated(b'{"v":1,"a":"', b"x", b'\xff"}'),
    "wrong type": repeated(b'{"v":"', b"x", b'"}'),
    "truncated": repeated(b'{"v":1,"a":[1', b",1", b"]"),
    "truncated, with an emoji": repeated(b'{"v":1,"a":"\xf0\x9f\x98\x80', b"x", b""),
    "truncated, of quotes": repeated(b'{"v":1,"a":[', b'""', b""),
    "control characters": repeated(b'{"v":1,"a":"', b"\x01", b'"}'),
}
OPERATIONS = {
    "append": 'Calculation.from_sql("v + 1 AS w")',
    "append, declared": 'Calculation.from_sql("v + 1 AS w").with_schema({"v": "Int64"})',
    "replace": 'Calculation.from_sql("v + 1 AS a, v AS v2")',
    "drop": 'Calculation.from_sql("v + 1 AS w").drop("a", "zzz")',
    "select": 'Calculation.from_sql("v + 1 AS w").select("v", "zzz")',
    "filter": 'Calculation.from_sql("v + 1 AS w", where="v > 1").drop("a")',
    "drop, declared": 'Calculation.from_sql("v + 1 AS w").drop("a", "zzz").with_schema({"v": "Int64"})',
}
FEW = [("dropped and kept by turns", "drop"), ("one lone surrogate", "select"), ("control characters", "append")]
CHILD = """
import pathlib, sys
from transform import Calculation
path = sys.argv[1]
summary = {calculation}.run(path, path + ".out", workers=1)
peak = pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(summary.lines_in, summary.rejected, int(peak) << 10)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")


def factor(make: Callable[[int], bytes], operation: str, rejected: int, path: Path, times: int = 1) -> float:
    """Return how many bytes more a run needs for each byte that its longest line has more."""
    lengths, peaks = [], []
    for size in SIZES:
        line = make(size)
        path.write_bytes(b'{"v":1}\n' + (line + b"\n") * times + b'{"v":2}\n')
        lengths.append(len(line))
        del line
        code = CHILD.format(calculation=OPERATIONS[operation])
        found = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            env=environment_with({"POLARS_MAX_THREADS": "1"}),
            check=True,
            timeout=60,
        )
        lines_in, lines_rejected, peak = map(int, found.stdout.split())
        assert (lines_in, lines_rejected) == (2 + times, rejected * times)
        peaks.append(peak)
    return (peaks[1] - peaks[0]) / (lengths[1] - lengths[0])


@pytest.mark.parametrize(("name", "operation"), FEW)
def test_a_line_takes_a_few_times_its_size(name: str, operation: str, tmp_path: Path) -> None:
    make = LINES.get(name) or REJECTED[name]
    assert factor(make, operation, int(name in REJECTED), tmp_path / "in.jsonl") <= MAX_FACTOR


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "operation"),
    [
        (name, operation)
        for name in [*LINES, *REJECTED]
        for operation in OPERATIONS
        if name != "wrong type" or "declared" in operation  # without a declaration, the calculation is refused
    ],
)
def test_any_line_takes_a_few_times_its_size(name: str, operation: str, tmp_path: Path) -> None:
    test_a_line_takes_a_few_times_its_size(name, operation, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LINES, *REJECTED])
def test_several_long_lines_take_little_more_than_one(name: str, tmp_path: Path) -> None:
    # The buffer that is read into may be up to twice as long as a line, and several lines fill it; the line before is
    # kept until it is written. Types are declared, as a sample keeps its lines.
    make = LINES.get(name) or REJECTED[name]
    path = tmp_path / "in.jsonl"
    assert factor(make, "drop, declared", int(name in REJECTED), path, times=3) <= MAX_FACTOR + 3
