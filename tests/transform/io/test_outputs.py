"""A file is replaced whole or not touched; what is no file is streamed into; nothing is overwritten that is read."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import stat
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pytest

from tests.conftest import command_line, environment_with
from tests.support.example import ARGUMENTS, CALCULATION, lines, transformed
from transform import OutputError
from transform.io.outputs import Output, remove
from transform.io.temp_files import create_held, find_abandoned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Command

COUNT = 2000
EXPECTED = transformed(COUNT)
OLD = b"what an earlier run has published\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "input.jsonl"
    path.write_bytes(lines(COUNT))
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory for the output."""
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.fixture
def umask() -> Iterator[int]:
    mask = 0o027
    before = os.umask(mask)
    yield mask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("old", [OLD, b"", None], ids=["over a file", "over an empty file", "new"])
def test_the_old_content_stays_until_the_new_one_is_published(old: bytes | None, directory: Path) -> None:
    target = directory / "output"
    if old is not None:
        target.write_bytes(old)

    def content() -> bytes | None:
        return target.read_bytes() if target.exists() else None

    with Output(target) as output:
        assert content() == old
        output.write(b"one ")
        output.write(memoryview(b"two"))
        assert content() == old
        output.publish()
        assert content() == b"one two"
    assert list(directory.iterdir()) == [target]


@pytest.mark.parametrize("old", [OLD, None], ids=["over a file", "new"])
@pytest.mark.parametrize("name", ["output", "output.gz"])
def test_what_is_not_published_leaves_no_trace(name: str, old: bytes | None, directory: Path) -> None:
    target = directory / name
    if old is not None:
        target.write_bytes(old)
    with Output(target) as output:
        output.write(b"new")
    assert {path: path.read_bytes() for path in directory.iterdir()} == ({} if old is None else {target: old})


def test_who_reads_the_old_file_reads_it_to_its_end(source: Path, directory: Path) -> None:
    target = directory / "output"
    target.write_bytes(OLD)
    with target.open("rb") as reader:
        CALCULATION.run(source, target)
        assert reader.read() == OLD
    assert target.read_bytes() == EXPECTED


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o755, 0o444, 0o666])
def test_a_file_keeps_its_permissions(permissions: int, directory: Path) -> None:
    target = directory / "output"
    target.write_bytes(OLD)
    target.chmod(permissions)
    with Output(target) as output:
        output.publish()
    assert mode(target) == permissions


def test_a_new_file_has_the_permissions_that_the_umask_leaves(source: Path, directory: Path, umask: int) -> None:
    source.write_bytes(lines(COUNT) + b"no JSON\n")
    summary = CALCULATION.run(source, directory / "output")
    assert summary.rejects == f"{directory / 'output'}.rejects.jsonl"
    assert [mode(path) for path in directory.iterdir()] == [0o666 & ~umask] * 2


@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_a_symlink_stays_and_what_it_points_to_is_replaced(relative: bool, directory: Path, tmp_path: Path) -> None:
    target, link, second = directory / "output", tmp_path / "link", tmp_path / "second link"
    target.write_bytes(OLD)
    target.chmod(0o600)
    link.symlink_to(Path("out", "output") if relative else target)
    second.symlink_to(link)
    inode = target.stat().st_ino
    with Output(second) as output:
        output.write(b"new")
        # The temporary file must be on the same file system as what it will replace, not as the link.
        assert len(list(directory.iterdir())) == 2
        output.publish()
    assert (second.readlink(), link.is_symlink()) == (link, True)
    assert (target.read_bytes(), mode(target)) == (b"new", 0o600)
    assert target.stat().st_ino != inode, "it was replaced, not written over"
    assert list(directory.iterdir()) == [target]


def test_a_symlink_to_nothing_gets_something_to_point_to(directory: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory / "output")
    with Output(link) as output:
        output.write(b"new")
        output.publish()
    assert link.is_symlink()
    assert (directory / "output").read_bytes() == b"new"


def test_other_hard_links_of_the_output_keep_the_old_content(directory: Path) -> None:
    target, other = directory / "output", directory / "other"
    target.write_bytes(OLD)
    other.hardlink_to(target)
    with Output(target) as output:
        output.write(b"new")
        output.publish()
    assert (target.read_bytes(), other.read_bytes()) == (b"new", OLD)


@pytest.mark.parametrize("role", ["target", "rejects"])
@pytest.mark.parametrize("way", ["same", "spelled otherwise", "symlink", "hard link", "symlinked directory"])
def test_the_input_is_never_overwritten(
    way: str, role: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other: Path | str = tmp_path / "other"
    match way:
        case "same":
            other = source
        case "spelled otherwise":
            other = "../" + str(source.relative_to(tmp_path.parent))
        case "symlink":
            Path(other).symlink_to(source)
        case "hard link":
            Path(other).hardlink_to(source)
        case "symlinked directory":
            Path(other).symlink_to(tmp_path)
            other = Path(other) / source.name
    places: dict[str, Any] = {"target": tmp_path / "output", "rejects": tmp_path / "rejects"} | {role: other}
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=r"is the input: .*\. Give another place for one of them\.$"):
        CALCULATION.run(source, **places)
    assert source.read_bytes() == lines(COUNT)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("rejects", ["output", "../out/output", "link"])
def test_the_rejects_never_overwrite_the_output(rejects: str, source: Path, directory: Path) -> None:
    (directory / "output").write_bytes(OLD)
    (directory / "link").symlink_to("output")
    with pytest.raises(OutputError, match="the rejects is the output"):
        CALCULATION.run(source, directory / "output", rejects=directory / rejects)
    assert (directory / "output").read_bytes() == OLD


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is a directory"),
        ("missing/output", "there is no directory .*/missing"),
        ("file/output", "not a directory"),
        ("x" * 256, "file name too long"),
        ("loop", "too many levels of symbolic links"),
    ],
)  # fmt: skip
def test_where_nothing_can_be_written_is_an_error_before_anything_is_read(
    name: str, message: str, source: Path, directory: Path
) -> None:
    (directory / "file").write_bytes(OLD)
    (directory / "loop").symlink_to("loop")
    before = sorted(directory.iterdir())
    calls: list[object] = []
    with pytest.raises(OutputError, match=f"^{directory / name}: {message}$"):
        CALCULATION.run(source, directory / name, rejects=directory / "rejects", progress=lambda *a: calls.append(a))
    assert not calls
    assert sorted(directory.iterdir()) == before
    with pytest.raises(OutputError, match=f"^{directory / name}: {message}$"):
        CALCULATION.run(source, directory / "output", rejects=directory / name, progress=lambda *a: calls.append(a))
    assert not calls
    assert sorted(directory.iterdir()) == before


def test_a_name_may_have_255_bytes(source: Path, directory: Path) -> None:
    for name in ("x" * 255, "é" * 127 + "x", "x" * 251 + ".zst"):
        target = directory / name
        for _ in range(2):
            CALCULATION.run(source, target, rejects=directory / ("r" * 255))
            assert list(directory.iterdir()) == [target]
        target.unlink()


def test_an_output_whose_name_is_nearly_too_long_needs_no_other_options(source: Path, directory: Path) -> None:
    CALCULATION.run(source, directory / ("x" * 250))
    assert (directory / ("x" * 250)).read_bytes() == EXPECTED


@pytest.mark.parametrize("old", [True, False], ids=["that exists", "new"])
def test_two_runs_to_one_file_do_not_mix(old: bool, directory: Path) -> None:
    target = directory / "output"
    if old:
        target.write_bytes(OLD)
    with Output(target) as first, Output(target) as second:
        first.write(b"1" * 1000)
        second.write(b"2" * 500)
        first.write(b"1" * 1000)
        second.publish()
        assert target.read_bytes() == b"2" * 500
        first.publish()
    assert target.read_bytes() == b"1" * 2000
    assert list(directory.iterdir()) == [target]


def test_a_leftover_that_nobody_holds_is_swept_by_the_next_output_of_that_name(directory: Path) -> None:
    target, other = directory / "output", directory / "other"
    for path in (target, other):
        there = set(directory.iterdir())
        with Output(path):
            (left,) = set(directory.iterdir()) - there
        left.touch()  # as after a kill: the file is there, its lock is not
    assert len(list(directory.iterdir())) == 2
    with Output(target):
        pass
    assert len(list(directory.iterdir())) == 1, "the other output's is none of its business"
    with Output(other):
        pass
    assert not list(directory.iterdir())


def test_a_leftover_is_abandoned_once_its_descriptor_is_closed(directory: Path) -> None:
    descriptor, path = create_held(directory, "prefix-")
    held, path_held = create_held(directory, "prefix-")
    assert not list(find_abandoned(directory, "prefix-"))
    os.close(descriptor)
    assert list(find_abandoned(directory, "prefix-")) == [path]
    assert not list(find_abandoned(directory, "other-"))
    os.close(held)
    assert list(find_abandoned(directory, "prefix-")) == sorted([path, path_held])


def test_who_sweeps_while_another_begins_takes_nothing_from_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, sweeping = fcntl.flock, list[tuple[int, Path]]()

    def overtaken(descriptor: int, operation: int) -> None:
        """Let a sweeper lock the new file first, as it can at just this moment."""
        if not sweeping:
            (new,) = directory.iterdir()
            sweeping.append((os.open(new, os.O_RDWR), new))
            flock(sweeping[0][0], operation)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    descriptor, path = create_held(directory, "prefix-")
    for sweeper, left in sweeping:
        left.unlink(missing_ok=True)
        os.close(sweeper)
    os.close(descriptor)
    assert len(sweeping) == 1
    assert path.exists()


def test_a_fifo_is_streamed_into_and_stays_one(source: Path, directory: Path) -> None:
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    try:
        CALCULATION.run(source, fifo)
    finally:
        reader.join()
    assert received == [EXPECTED]
    assert fifo.is_fifo()
    assert list(directory.iterdir()) == [fifo], "no rejects are kept beside what is no file"


def test_a_fifo_named_like_a_format_gets_that_format(source: Path, directory: Path) -> None:
    fifo = directory / "fifo.gz"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    try:
        CALCULATION.run(source, fifo)
    finally:
        reader.join()
    assert gzip.decompress(received[0]) == EXPECTED


def test_a_device_is_streamed_into_and_stays_one(source: Path, directory: Path) -> None:
    source.write_bytes(lines(COUNT) + b"no JSON\n")
    link = directory / "link"
    link.symlink_to("/dev/null")
    for target in ("/dev/null", link):
        summary = CALCULATION.run(source, target)
        assert (summary.lines_out, summary.rejected, summary.rejects) == (COUNT, 1, None)
    assert Path("/dev/null").is_char_device()
    assert not list(Path("/dev").glob("*null?*"))
    assert list(directory.iterdir()) == [link]


def test_a_full_device_is_an_error(source: Path) -> None:
    with pytest.raises(OutputError, match=r"^/dev/full: no space left on device$"):
        CALCULATION.run(source, "/dev/full")


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_streamed_into(name: str, source: Path, process: Command) -> None:
    done = process("run", source, name, *ARGUMENTS)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", EXPECTED)


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_what_a_shell_appends_to_keeps_what_it_had(name: str, source: Path, directory: Path) -> None:
    source.write_bytes(lines(COUNT) + b"no JSON\n")
    target = directory / "output"
    target.write_bytes(OLD)
    try:
        with target.open("ab") as stdout:
            done = subprocess.run(
                command_line("run", source, name, *ARGUMENTS),
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=environment_with({}),
                check=False,
            )
        assert (done.returncode, done.stderr) == (3, b"")
        assert target.read_bytes() == OLD + EXPECTED
        assert not Path("/dev/stdout.rejects.jsonl").exists()
    finally:
        with suppress(FileNotFoundError):
            Path("/dev/stdout.rejects.jsonl").unlink()


def test_a_pipe_that_does_not_block_gets_everything(source: Path) -> None:
    source.write_bytes(lines(50_000))
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    process = subprocess.Popen(command_line("run", source, "-", *ARGUMENTS), stdout=write_end, env=environment_with({}))
    os.close(write_end)
    with process, open(read_end, "rb") as pipe:  # noqa: PTH123 # a descriptor
        assert pipe.read() == transformed(50_000)
    assert process.returncode == 0


def test_a_file_object_is_written_to_and_left_open(source: Path) -> None:
    target = io.BytesIO()
    target.write(b"before\n")
    CALCULATION.run(source, target)
    target.write(b"after\n")
    assert target.getvalue() == b"before\n" + EXPECTED + b"after\n"


def test_a_file_object_that_compresses_is_not_compressed_twice(source: Path, directory: Path) -> None:
    with gzip.open(directory / "output.gz", "wb") as target:
        CALCULATION.run(source, cast("BinaryIO", target))
    assert gzip.decompress((directory / "output.gz").read_bytes()) == EXPECTED


def test_a_file_object_that_takes_a_byte_at_a_time_gets_all() -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self.taken = b""

        def write(self, data: Any) -> int:
            self.taken += bytes(data[:1])
            return 1

    target = Slow()
    CALCULATION.run(io.BytesIO(lines(3)), target)  # type: ignore[arg-type] # a raw stream is a binary file object, too
    assert target.taken == transformed(3)


def test_a_file_object_that_fails_is_an_error_with_its_name(source: Path) -> None:
    class Broken(io.BytesIO):
        name = "broken thing"

        def write(self, _data: Any) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(OutputError, match=r"^broken thing: input/output error$"):
        CALCULATION.run(source, Broken())


def test_what_is_removed_is_the_file_behind_a_symlink_and_never_a_device(directory: Path) -> None:
    target, link, device = directory / "file", directory / "link", directory / "device"
    target.write_bytes(OLD)
    link.symlink_to(target)
    device.symlink_to("/dev/null")
    for path in (link, device, directory / "missing", directory):
        remove(str(path))
    assert not target.exists()
    assert sorted(directory.iterdir()) == [device, link]
    assert Path("/dev/null").is_char_device()


def test_rejects_to_standard_output_remove_no_file_of_that_name(source: Path, tmp_path: Path, process: Command) -> None:
    (tmp_path / "-").write_bytes(OLD)  # the command runs in this directory
    done = process("run", source, "output", "--rejects", "-", *ARGUMENTS)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / "-").exists()
