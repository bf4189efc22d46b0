"""A line whose elements are rows takes a few times its size in memory, however many it has and whatever they become.

Child processes run a calculation on two inputs, as in `test_line_memory`: on lines of two sizes, whose difference shows
what a byte of a line costs; or on lines of about the same size that become much more of output, or on more lines.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import environment_with
from tests.transform.test_line_memory import MAX_FACTOR, repeated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 1 << 20
MEMBER_BYTES = 10_000
MAX_MORE = 80 * MIB
"""What the results of two threads may take that wait for their turn, and what these work on."""
SIZES = (2 * MIB, 6 * MIB)

LINES: dict[str, Callable[[int], bytes]] = {
    "numbers": repeated(b'{"m":1,"r":[1', b",1", b"]}\n"),
    "empty objects": repeated(b'{"m":1,"r":[{}', b",{}", b"]}\n"),
    "empty arrays, rejected": repeated(b'{"m":1,"r":[[]', b",[]", b"]}\n"),
    "objects": repeated(b'{"m":1,"r":[{"a":1}', b',{"a":1}', b"]}\n"),
    "two large objects": lambda size: (
        b'{"r":[{"a":1,"p":"%b"},{"p":[%b1],"a":2}]}\n' % (b"x" * (size // 2), b"1," * (size // 4))
    ),
}
CALCULATIONS = {
    "expression": 'Calculation.from_sql("a + 1 AS b").with_schema({"a": "Int64"})',
    "function": "LineFunction(function)",
}
CHILD = """
import json, pathlib, resource, sys
from transform import Calculation, LineFunction
from tests.support.tuned import Tuned
def function(row):
    return row
path, workers = sys.argv[1], int(sys.argv[2])
calculation = Tuned({calculation}.each("r", "m"), only_processes={only_processes})
summary = calculation.run(path, path + ".out", workers=workers)
peak = pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([summary.lines_read, summary.lines_in, summary.bytes_out, max(int(peak), children) << 10]))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")


def with_member(elements: int) -> bytes:
    """Return a line with a member that makes each of its elements large."""
    return b'{"r":[%b],"m":"%b"}\n' % (b",".join([b'{"a":1}'] * elements), b"x" * MEMBER_BYTES)


def peak(content: bytes, path: Path, workers: int, calculation: str = "expression") -> tuple[int, int]:
    """Return the peak of memory of a run, and the size of the output; of several processes, that of the largest."""
    path.write_bytes(b'{"m":1,"r":[{"a":1}]}\n' + content)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CHILD.format(calculation=CALCULATIONS[calculation], only_processes=calculation == "function"),
            str(path),
            str(workers),
        ],
        capture_output=True,
        env=environment_with({"POLARS_MAX_THREADS": "1"}),
        check=True,
        timeout=120,
    )
    lines_read, rows, size, found = map(int, done.stdout.decode().strip(" []\n").split(","))
    assert lines_read == content.count(b"\n") + 1
    assert rows > lines_read
    for name in (path.name, f"{path.name}.out", f"{path.name}.out.rejects.jsonl"):
        path.with_name(name).unlink(missing_ok=True)
    return found, size


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "numbers" else pytest.mark.slow) for name in LINES]
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_line_takes_a_few_times_its_size_however_many_elements_it_has(
    name: str, workers: int, tmp_path: Path
) -> None:
    contents = [LINES[name](size) for size in SIZES]
    (less, _), (more, _) = (peak(content, tmp_path / "in.jsonl", workers) for content in contents)
    cost = (more - less) / (len(contents[1]) - len(contents[0]))
    assert cost <= MAX_FACTOR, "bytes of memory for each byte of the line"


@pytest.mark.parametrize(
    ("workers", "calculation"),
    [(1, "expression"), (2, "expression"), pytest.param(2, "function", marks=pytest.mark.slow)],
)
def test_a_member_that_many_elements_get_takes_memory_once(workers: int, calculation: str, tmp_path: Path) -> None:
    less, _ = peak(with_member(100), tmp_path / "in.jsonl", workers, calculation)
    more, written = peak(with_member(30_000), tmp_path / "in.jsonl", workers, calculation)
    assert written > 300_000_000
    assert more - less <= MAX_MORE


@pytest.mark.parametrize(
    ("workers", "calculation"), [(2, "expression"), pytest.param(2, "function", marks=pytest.mark.slow)]
)
def test_many_such_lines_take_no_more_than_one(workers: int, calculation: str, tmp_path: Path) -> None:
    """Two threads work on lines whose output waits for that of an earlier line."""
    less, _ = peak(with_member(100), tmp_path / "in.jsonl", workers, calculation)
    more, written = peak(with_member(6000) * 6, tmp_path / "in.jsonl", workers, calculation)
    assert written > 360_000_000
    assert more - less <= MAX_MORE
