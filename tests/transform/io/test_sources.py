"""Whatever input comes from, all of it is read, and an input that changes meanwhile fails the run."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from termios import FIONREAD
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT, command_line, environment_with
from tests.support.example import ARGUMENTS, CALCULATION, lines, transformed, wait_until
from transform import InputError, SourceChangedError
from transform.io.compression import codec_of_name
from transform.io.ranges import cut
from transform.io.sources import InputVersion, Position, Reader, StoredInput, open_source, open_version, reopenable

if TYPE_CHECKING:
    from collections.abc import Callable

    from transform.io.compression import Codec
    from transform.io.sources import Readable, Source

COUNT = 2000
CONTENT = lines(COUNT)
OLD = b"what an earlier run has published\n"


def read(source: Source, view_bytes: int = 1000) -> bytes:
    content, view = bytearray(), memoryview(bytearray(view_bytes))
    with open_source(source) as reader:
        while count := reader.read_into(view):
            content += view[:count]
        reader.check_whole()
    return bytes(content)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "input.jsonl"
    path.write_bytes(CONTENT)
    os.utime(path, ns=(1, 1))  # long ago, so that no clock is too coarse to show a change
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target" / "output.jsonl"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 999, 1000, 1001])
def test_files_of_every_size_are_read_whole(size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert read(path) == read(str(path)) == b"x" * size
    with open_source(path) as reader:
        assert (reader.name, reader.size) == (str(path), size)


def test_a_file_object_is_read_from_where_it_is(source: Path) -> None:
    with source.open("rb") as file:
        file.seek(100)
        assert read(file) == CONTENT[100:]
    assert read(io.BytesIO(CONTENT)) == CONTENT


def test_a_file_object_that_inflates_may_be_named_like_the_file_beneath(tmp_path: Path) -> None:
    path = tmp_path / "input.jsonl.gz"
    path.write_bytes(gzip.compress(CONTENT))
    with gzip.open(path) as file:
        assert read(file) == CONTENT


def test_a_source_that_gives_a_byte_at_a_time_is_read_whole() -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self.rest = CONTENT

        def readinto(self, view: Any) -> int:
            count = min(1, len(self.rest))
            view[:count], self.rest = self.rest[:count], self.rest[count:]
            return count

    assert read(Slow()) == CONTENT


def test_a_file_that_cannot_be_read_is_an_error_with_its_name() -> None:
    memory = Path("/proc/self/mem")  # nothing is mapped where it starts: reading fails as a broken disk does
    with pytest.raises(InputError, match=r"^/proc/self/mem: input/output error$"):
        read(memory)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such file or directory"),
        ("missing/input", "no such file or directory"),
        ("", "is a directory"),
        ("file/input", "not a directory"),
        ("x" * 256, "file name too long"),
        ("loop", "too many levels of symbolic links"),
    ],
)
def test_a_missing_input_is_an_error_with_its_name(name: str, message: str, target: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=f"^{tmp_path / name}: {message}$"):
        CALCULATION.run(tmp_path / name, target)
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


def test_what_a_symlink_points_to_is_read(source: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(source)
    assert read(link) == CONTENT


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "a b\n\t'\"*?[", "-", "s3:", "\udcff.jsonl"])
def test_input_and_output_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    source, target = tmp_path / "in" / name, tmp_path / "out" / name
    source.write_bytes(CONTENT)
    CALCULATION.run(source, target, rejects=tmp_path / "rejects")
    assert target.read_bytes() == transformed(COUNT)
    monkeypatch.chdir(tmp_path / "in")
    assert read(Path(".", name) if name != "-" else f"./{name}") == CONTENT


def test_a_fifo_is_read_to_its_end(target: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    feeder = threading.Thread(target=fifo.write_bytes, args=(CONTENT,))
    feeder.start()
    try:
        CALCULATION.run(fifo, target)
    finally:
        feeder.join()
    assert target.read_bytes() == transformed(COUNT)
    assert not reopenable(fifo)


OPEN_FILES = """
import os, sys
from tests.support import example
from tests.support.tuned import Tuned

CALCULATION = Tuned(example.CALCULATION)

def open_files():
    entries = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(entry) for entry in entries if os.path.islink(entry))

source, target = sys.argv[1:]
for workers in (1, 2):
    CALCULATION.run(source, target, workers=workers, range_bytes=5000)  # opens what the process needs only once
    before = open_files()
    CALCULATION.run(source, target, workers=workers, range_bytes=5000)
    assert open_files() == before, (workers, before, open_files())
"""


def test_nothing_stays_open(source: Path, target: Path) -> None:
    # In a process of its own: here, other tests' connections are closed whenever the garbage collector finds them.
    subprocess.run(
        [sys.executable, "-c", OPEN_FILES, source, target], cwd=ROOT, env=environment_with({}), timeout=100, check=True
    )


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(lines(1, first=COUNT))


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b'{"a":7')


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(CONTENT)
    os.utime(other, ns=(1, 1))
    other.replace(path)


def truncate(path: Path) -> None:
    os.truncate(path, len(CONTENT) - 3)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def touch(path: Path) -> None:
    path.touch()


CHANGES = (append, overwrite, replace, truncate, empty, touch, Path.unlink)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("share", [0, 0.5, 1], ids=["at the start", "in the middle", "after the last line"])
def test_an_input_that_changes_while_it_is_read_fails_the_run(
    change: Callable[[Path], None], share: float, source: Path, target: Path, tmp_path: Path
) -> None:
    changed = False

    def progress(done: int, total: int | None) -> None:
        nonlocal changed
        assert total == len(CONTENT)
        if not changed and done >= share * len(CONTENT):
            changed = True
            change(source)

    with pytest.raises(InputError, match=f"^{source}: (changed|vanished) while it was read"):
        # Where a line was cut in two, it is rejected before that shows.
        CALCULATION.run(source, target, rejects=tmp_path / "rejects", chunk_bytes=1000, progress=progress)
    assert changed
    assert target.read_bytes() == OLD
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("change", [append, touch, replace, Path.unlink])
def test_a_compressed_input_that_changes_while_it_is_read_fails_the_run(
    change: Callable[[Path], None], target: Path, tmp_path: Path
) -> None:
    source = tmp_path / "input.gz"
    source.write_bytes(gzip.compress(CONTENT))
    os.utime(source, ns=(1, 1))
    changes = [change]

    def progress(_done: int, _total: int | None) -> None:
        while changes:
            changes.pop()(source)

    # What is appended is found out sooner: it is no gzip.
    with pytest.raises(InputError, match=f"^{source}: (changed|vanished|corrupt)"):
        CALCULATION.run(source, target, chunk_bytes=1000, progress=progress)
    assert target.read_bytes() == OLD


def test_a_link_that_is_turned_to_another_file_fails_the_run(source: Path, target: Path, tmp_path: Path) -> None:
    link, other = tmp_path / "link", tmp_path / "other"
    other.write_bytes(CONTENT)
    link.symlink_to(source)

    def progress(_done: int, _total: int | None) -> None:
        link.unlink()
        link.symlink_to(other)

    with pytest.raises(InputError, match="changed while it was read"):
        CALCULATION.run(link, target, progress=progress)
    assert target.read_bytes() == OLD


def test_an_input_that_is_only_read_and_linked_meanwhile_is_fine(source: Path, target: Path, tmp_path: Path) -> None:
    def progress(_done: int, _total: int | None) -> None:
        source.read_bytes()
        (tmp_path / "another name").hardlink_to(source)

    CALCULATION.run(source, target, progress=progress)
    assert target.read_bytes() == transformed(COUNT)


@pytest.mark.parametrize("change", [append, overwrite, truncate])
def test_standard_input_that_is_a_file_and_changes_fails_the_run(
    change: Callable[[Path], None], source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source.open("rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(InputError, match="changed while it was read"):
            CALCULATION.run("-", target, chunk_bytes=1000, progress=lambda _done, _total: change(source))
    assert target.read_bytes() == OLD


def test_standard_input_that_is_a_file_is_read_from_where_it_is(source: Path) -> None:
    with source.open("rb") as file:
        os.lseek(file.fileno(), len(lines(1)), os.SEEK_SET)
        done = subprocess.run(
            command_line("run", "-", "-", *ARGUMENTS),
            stdin=file,
            capture_output=True,
            env=environment_with({}),
            check=True,
        )
    assert done.stdout == transformed(COUNT - 1, first=1)


def test_a_pipe_that_does_not_block_is_read_to_its_end(target: Path) -> None:
    # Pipes are left in this state by programs such as ssh and node, which share them with what they start.
    half = len(lines(COUNT // 2))
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    process = subprocess.Popen(
        command_line("run", "-", target, *ARGUMENTS), stdin=read_end, stderr=subprocess.PIPE, env=environment_with({})
    )
    with process, open(read_end, "rb", buffering=0) as rest, open(write_end, "wb", buffering=0) as pipe:  # noqa: PTH123
        pipe.write(CONTENT[:half])
        wait_until(lambda: ioctl(rest, FIONREAD, bytes(4)) == bytes(4))  # until that has been read
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)  # time to take that for the end
        pipe.write(CONTENT[half:])
        pipe.close()
        assert process.communicate()[1] == b""
    assert target.read_bytes() == transformed(COUNT)


@pytest.mark.parametrize("closed", ["<&-", ">&-"], ids=["input", "output"])
def test_closed_standard_streams_are_an_error_without_a_traceback(closed: str, source: Path) -> None:
    arguments = ("-", "/dev/null") if closed == "<&-" else (source, "-")
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command_line("run", *arguments, *ARGUMENTS)],
        capture_output=True,
        env=environment_with({}),
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1


def test_only_files_can_be_read_twice(source: Path, tmp_path: Path) -> None:
    readable: list[Source | Readable] = [source, str(source), "s3://bucket/key"]
    assert all(reopenable(place) for place in readable)
    once: list[Source | Readable] = ["-", "/dev/null", tmp_path / "missing", io.BytesIO()]
    assert not any(reopenable(place) for place in once)


# --- what is open ----------------------------------------------------------------------------------------------------


class Untouched:
    """A stream that may not be read, and that has nothing else that could be called."""

    def readinto(self, _view: memoryview, /) -> int:
        raise AssertionError("read")


def test_a_reader_that_is_made_reads_nothing() -> None:
    stored = StoredInput("name", Untouched(), 7)
    codec = gzip_codec()
    version = InputVersion("name", (1,))
    reader = Reader(stored, stored.read_into, 9, version, Position(5, "gzip"), codec, {"ContentType": "x"})
    assert (reader.name, reader.position, reader.size, reader.start) == ("name", 7, 9, Position(5, "gzip"))
    assert (reader.codec, reader.version, reader.headers) == (codec, version, {"ContentType": "x"})


def gzip_codec() -> Codec:
    codec = codec_of_name("in.gz")
    assert codec is not None
    return codec


def test_a_source_that_is_open_and_plain_has_been_looked_at_only(source: Path) -> None:
    with open_source(source) as reader:
        assert reader.position == 6, "as many bytes as show how it is compressed"
        assert (reader.codec, reader.start) == (None, None)
        assert reader.version is not None
    stream = io.BytesIO(CONTENT)
    with open_source(stream) as reader:
        assert (stream.tell(), reader.size, reader.version) == (6, None, None)


def test_how_much_was_read_is_counted_as_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "input"
    packed = gzip.compress(CONTENT)
    path.write_bytes(packed)
    with open_source(path) as reader:
        assert (reader.size, reader.codec, reader.version) == (len(packed), gzip_codec(), None)
        assert rest_of(reader) == CONTENT
        assert reader.position == len(packed)


@pytest.mark.parametrize("offset", [0, 1, 6, 1000, len(CONTENT)])
def test_a_file_is_gone_on_with_from_an_offset(offset: int, source: Path) -> None:
    with open_source(source, Position(offset, None)) as reader:
        assert (reader.position, reader.start) == (offset, Position(offset, None))
        assert rest_of(reader) == CONTENT[offset:]
        reader.check_whole()


@pytest.mark.parametrize("offset", [0, 1, 6, 1000, len(CONTENT)])
def test_a_compressed_file_is_gone_on_with_from_an_offset_in_its_content(offset: int, tmp_path: Path) -> None:
    path = tmp_path / "input.gz"
    path.write_bytes(gzip.compress(CONTENT))
    with open_source(path, Position(offset, "gzip")) as reader:
        assert (reader.codec, reader.start) == (gzip_codec(), Position(offset, "gzip"))
        assert rest_of(reader) == CONTENT[offset:]
        reader.check_whole()


@pytest.mark.parametrize(
    ("name", "content", "start"),
    [
        ("input", gzip.compress(CONTENT), Position(5, None)),
        ("input.gz", gzip.compress(CONTENT), Position(5, None)),
        ("input", CONTENT, Position(5, "gzip")),
        ("input", CONTENT, Position(0, "gzip")),
        ("input", gzip.compress(CONTENT), Position(5, "zstd")),
        ("input", gzip.compress(CONTENT), Position(len(CONTENT) + 1, "gzip")),
    ],
)
def test_what_is_stored_in_another_way_than_before_is_not_gone_on_with(
    name: str, content: bytes, start: Position, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceChangedError, match=f"^{path}: is not what was read before$"), open_source(path, start):
        pass


@pytest.mark.parametrize("source", ["-", "/dev/null", io.BytesIO(CONTENT)], ids=["stdin", "device", "object"])
@pytest.mark.parametrize("start", [Position(5, None), Position(5, "gzip")])
def test_a_stream_is_not_gone_on_with(source: Source, start: Position) -> None:
    message = "can't be resumed: only files and S3 objects"
    with pytest.raises(InputError, match=message), open_source(source, start):
        pass


def test_a_version_of_a_file_is_read_from_anywhere(source: Path) -> None:
    view = memoryview(bytearray(100))
    with open_source(source) as reader:
        assert reader.version is not None
        with open_version(reader.version) as anywhere:
            for offset in (1000, 0, 7, len(CONTENT) - 50, len(CONTENT)):
                anywhere.prefetch(offset)
                count = anywhere.read_at(view, offset)
                assert view[:count] == CONTENT[offset : offset + 100]
        assert reader.position == 6, "others read without the reader"


@pytest.mark.parametrize("change", CHANGES)
def test_a_version_that_is_gone_is_not_opened(change: Callable[[Path], None], source: Path) -> None:
    with open_source(source) as reader:
        version = reader.version
    assert version is not None
    change(source)
    with pytest.raises(InputError, match=f"^{source}: (changed|vanished) while it was read"), open_version(version):
        pass


def test_pieces_that_others_read_are_counted_as_read(source: Path) -> None:
    with open_source(source) as reader:
        positions = [(reader.position, part.stop) for part in reader.follow(cut(0, len(CONTENT), lambda: 1000))]
        assert all(position == stop for position, stop in positions)
        reader.check_whole()


def rest_of(reader: Reader) -> bytes:
    content, view = bytearray(), memoryview(bytearray(1000))
    while count := reader.read_into(view):
        content += view[:count]
    return bytes(content)
