"""What is streamed into a pipe, a device or a file object is flushed, and every failure to write it is reported."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.example import CALCULATION, lines, transformed
from transform import OutputError, RejectedError
from transform.io.outputs import Output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory for the output."""
    path = tmp_path / "out"
    path.mkdir()
    return path


def write_until(target: Path, content: bytes, error: BaseException) -> None:
    """Write some content, and then be stopped by an error."""
    with Output(target) as output:
        output.write(content)
        raise error


@contextmanager
def failing_to_close(target: BinaryIO) -> Iterator[BinaryIO]:
    """Close it in the end, which will fail as it still has something to write; that hides no other failure."""
    try:
        yield target
    finally:
        with pytest.raises(OSError, match=r"No space|Broken pipe"):
            target.close()


@pytest.mark.parametrize("count", [0, 1, 100], ids=lambda count: f"{count} lines")
def test_a_buffered_stream_that_cannot_be_flushed_fails_the_run(count: int) -> None:
    assert len(transformed(count)) < io.DEFAULT_BUFFER_SIZE
    with failing_to_close(Path("/dev/full").open("wb")) as target:
        if not count:
            target.write(b"of the caller")
        with pytest.raises(OutputError, match=r"^/dev/full: no space left on device$"):
            CALCULATION.run(io.BytesIO(lines(count)), target)


def test_a_stream_is_flushed_and_left_open(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as target:
        CALCULATION.run(io.BytesIO(lines(3)), target)
        assert (tmp_path / "output").read_bytes() == transformed(3), "it does not wait for the caller to close it"
        assert not target.closed


def test_a_compressed_stream_is_ended_before_it_is_flushed(directory: Path) -> None:
    fifo = directory / "fifo.gz"
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        CALCULATION.run(io.BytesIO(lines(3)), fifo)
        assert gzip.decompress(os.read(descriptor, 1 << 16)) == transformed(3)
        assert os.read(descriptor, 1) == b"", "it was closed"
    finally:
        os.close(descriptor)


def test_a_pipe_is_closed_when_the_output_is_discarded(directory: Path) -> None:
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_until(fifo, b"some", KeyboardInterrupt())
        assert (os.read(descriptor, 100), os.read(descriptor, 1)) == (b"some", b"")
    finally:
        os.close(descriptor)


def test_a_broken_pipe_says_that_the_output_is_incomplete() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    message = r"the reader closed the pipe; the output is incomplete$"
    with failing_to_close(os.fdopen(write_end, "wb")) as target, pytest.raises(OutputError, match=message):
        CALCULATION.run(io.BytesIO(lines(3)), target)


def test_a_stream_gets_what_comes_before_a_failure_and_only_the_error_tells(tmp_path: Path) -> None:
    source, target = tmp_path / "input.jsonl", io.BytesIO()
    source.write_bytes(lines(500) + b"no JSON\n")
    with pytest.raises(RejectedError):
        CALCULATION.run(source, target, on_error="fail", chunk_bytes=1000, workers=1)
    assert target.getvalue()
    assert transformed(500).startswith(target.getvalue())


def test_a_compressed_stream_that_is_stopped_is_not_a_whole_one(directory: Path) -> None:
    fifo = directory / "fifo.gz"
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    content = os.urandom(30_000)
    try:
        with pytest.raises(ValueError, match="stop"):
            write_until(fifo, content, ValueError("stop"))
        found = os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
    inflater = zlib.decompressobj(wbits=31)
    assert content.startswith(inflater.decompress(found))
    assert not inflater.eof, "who reads it can tell"
