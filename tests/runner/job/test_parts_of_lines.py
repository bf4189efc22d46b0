"""A line whose elements become more than a part: a job sends it in parts, and another begins it again."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from runner.job.protocol import JobResult
from tests.conftest import environment_with
from tests.support.jobs import Free, Killed
from tests.support.memory import KEY, OUTPUT_KEY, MemoryJobs, MemoryS3

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SETTINGS = {"CALCULATION": "a + 1 AS b", "SCHEMA": "a=Int64", "EACH": "r", "WITH": "m", "PART_BYTES": "5MiB"}
MEMBER = random.Random(1).randbytes(350 << 10).hex()
PAD = "x" * (2 << 20)  # so that a chunk has one line
COUNTS = (1, 30, 1, 22, 1)
"""Of the elements of each line: two lines become several parts."""


def line_of(first: int, count: int) -> tuple[bytes, bytes, list[tuple[int, int]]]:
    """Return a line, its output, and the line and element of each that is rejected."""
    elements, output, rejected = [], [], []
    for element in range(1, count + 1):
        if element % 10 == 7:
            elements.append("7")
            rejected.append((first, element))
        else:
            elements.append(f'{{"a":{element}}}')
            output.append(f'{{"m":"{MEMBER}{first}","a":{element},"b":{element + 1}}}\n')
    line = f'{{"pad":"{PAD}","m":"{MEMBER}{first}","r":[{",".join(elements)}]}}\n'
    return line.encode(), "".join(output).encode(), rejected


LINES = [line_of(number, count) for number, count in enumerate(COUNTS, 1)]
CONTENT, OUTPUT = b"".join(line for line, _, _ in LINES), b"".join(output for _, output, _ in LINES)
REJECTED = [place for _, _, rejected in LINES for place in rejected]


@dataclass
class DyingS3(MemoryS3):
    """S3 in memory; its user is killed at a request.

    Attributes:
        dies_at: The number of the request to write at which it is killed, 0 for none.
        writes: The requests to write.
    """

    dies_at: int = 0
    writes: list[str] = field(default_factory=list)

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation in ("upload_part", "put_object", "create_multipart_upload"):
            self.writes.append(operation)
            if len(self.writes) == self.dies_at:
                raise Killed
        return super().call(operation, **arguments)


def check(jobs: MemoryJobs, read: Any = bytes, key: str = OUTPUT_KEY) -> None:
    """Check that all is as if nothing had happened."""
    output = jobs.s3.content(key)
    assert output is not None
    assert read(output) == OUTPUT
    assert jobs.s3.keys("checkpoints/") == []
    # An upload stays open, without parts, if the job is killed before it has noted it.
    assert [parts for *_, parts in jobs.s3.uploads.values() if parts] == []
    index, *objects = (jobs.s3.content(one) or b"" for one in sorted(jobs.s3.keys("rejects/"), reverse=True))
    found = [json.loads(line) for body in reversed(objects) for line in body.splitlines()]
    assert [(one["line"], one["element"]) for one in found] == REJECTED
    assert json.loads(index)["rejected"] == len(REJECTED)


def test_an_output_is_sent_in_parts_within_lines() -> None:
    jobs = MemoryJobs(DyingS3(), changes=SETTINGS)
    jobs.s3.put(KEY, CONTENT)
    sizes = list[int]()
    jobs.s3.before = lambda operation, arguments: (
        sizes.append(len(arguments["Body"])) if operation == "upload_part" else None
    )
    outcome = jobs.do()
    check(jobs)
    assert outcome.kind is JobResult.DONE
    summary = outcome.summary
    assert (summary["lines_read"], summary["lines_in"]) == (len(COUNTS), sum(COUNTS))
    assert (summary["bytes_in"], summary["bytes_out"]) == (len(CONTENT), len(OUTPUT))
    assert len(sizes) > 4
    assert min(sizes[:-1]) >= 5 * MIB, "S3 refuses smaller ones, but for the last"
    assert max(sizes) < 15 * MIB


@pytest.mark.parametrize("name", [KEY, pytest.param(f"{KEY}.gz", marks=pytest.mark.slow)])
def test_a_job_that_is_killed_within_a_line_is_continued_before_it(name: str) -> None:
    """It is killed at each request to write, in turn."""
    read = bytes if name == KEY else gzip.decompress
    ends = {0, *(len(b"".join(one[0] for one in LINES[: number + 1])) for number in range(len(LINES)))}
    dies_at, has_ended, offsets = 0, False, set[int]()
    while not has_ended:
        dies_at += 1
        s3 = DyingS3(dies_at=dies_at)
        jobs, control = MemoryJobs(s3, changes=SETTINGS), Free()
        s3.put(name, CONTENT)
        event = jobs.event(key=name)
        try:
            jobs.do(event, control=control)
            has_ended = True
        except Killed:
            s3.dies_at = 0
            assert jobs.do(event, again=True, control=control).kind is JobResult.DONE
        check(jobs, read, f"output/{name}")
        offsets |= {*control.offsets}
    assert dies_at > 8
    assert offsets <= ends, "a checkpoint is where a line ends"
    assert len(offsets) > 2


CHILD = """
import pathlib, sys
from runner.job.process import do
from runner.job.protocol import Order
from tests.runner.job.test_parts_of_lines import SETTINGS
from tests.support.jobs import Free
from tests.support.memory import KEY, SENT, MemoryJobs, MemoryS3

class ForgetfulS3(MemoryS3):
    def _upload_part(self, Body, **arguments):
        return super()._upload_part(Body=b"", **arguments)

jobs = MemoryJobs(ForgetfulS3(), part_bytes=16 << 20, changes=SETTINGS)
jobs.s3.put(KEY, pathlib.Path(sys.argv[1]).read_bytes())
outcome = do(jobs.context(), Order(jobs.event(), SENT, int(sys.argv[2]), False, SENT, ""), Free())
peak = pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(outcome.summary["bytes_out"], int(peak) << 10)
"""
MAX_MORE = 230 * MIB
"""Parts of 80 MiB in flight, one that waits, and the next; what two threads work on, and what waits for its turn."""


def peak(content: bytes, path: Path, workers: int) -> tuple[int, int]:
    """Return the size of the output of a job, and the peak of memory."""
    path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(workers)],
        capture_output=True,
        env=environment_with({"POLARS_MAX_THREADS": "1"}),
        check=True,
        timeout=100,
    )
    written, found = map(int, done.stdout.split())
    return written, found


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_what_becomes_of_a_line_takes_no_more_memory_than_parts_in_flight(workers: int, tmp_path: Path) -> None:
    member = b"x" * (10 << 10)
    few, many = (
        b'{"r":[%b],"m":"%b"}\n' % (b",".join([b'{"a":1}'] * count), member) * lines
        for count, lines in ((1, 1), (20_000, 2))
    )
    (_, less), (written, more) = (peak(content, tmp_path / "in", workers) for content in (few, many))
    assert written > 400_000_000
    assert more - less <= MAX_MORE
