"""A local output is on disk before its name shows it, and every failure to write it is reported."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from tests.support.example import CALCULATION, lines, transformed
from tests.support.places import OLD
from transform import OutputError
from transform.io.compression import CODECS, Inflater
from transform.io.outputs import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTENT = lines(500)


class Effect(NamedTuple):
    """A system call that was made, in the order of those calls.

    Attributes:
        name: `fsync` or `rename`.
        inode: Of the file or directory that was synced or renamed.
        size: Of that, at the time.
    """

    name: str
    inode: int
    size: int


class Disk:
    """The calls that make content and names durable, as they are made.

    Attributes:
        effects: What has been done so far, in order.
        before_sync: Called before each fsync of a file.
        before_rename: Called before each rename.
    """

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.before_sync: Callable[[], None] = lambda: None
        self.before_rename: Callable[[], None] = lambda: None

    def sync(self, call: Callable[[int], None]) -> Callable[[Any], None]:
        def spy(descriptor: Any) -> None:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                self.before_sync()
            call(descriptor)
            self.effects.append(Effect("fsync", status.st_ino, os.fstat(descriptor).st_size))

        return spy

    def rename(self, call: Callable[..., None]) -> Callable[..., None]:
        def spy(source: Any, target: Any, **options: Any) -> None:
            status = os.stat(source)  # noqa: PTH116 # takes a descriptor, too
            self.before_rename()
            call(source, target, **options)
            self.effects.append(Effect("rename", status.st_ino, status.st_size))

        return spy


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Records what is synced and renamed from here on; all of it is done, too."""
    disk = Disk()
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, disk.sync(getattr(os, name)))
    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, disk.rename(getattr(os, name)))
    return disk


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory for the output."""
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "input.jsonl"
    path.write_bytes(CONTENT)
    return path


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def write(target: Path, content: bytes) -> None:
    """Publish some content."""
    with Output(target) as output:
        output.write(content)
        output.publish()


def write_until(target: Path, content: bytes, error: BaseException) -> None:
    """Write some content, and then be stopped by an error."""
    with Output(target) as output:
        output.write(content)
        raise error


def published(path: Path, directory: Path) -> list[Effect]:
    """Return the effects that publishing a file has to have had."""
    status = path.stat()
    return [
        Effect("fsync", status.st_ino, status.st_size),
        Effect("rename", status.st_ino, status.st_size),
        Effect("fsync", directory.stat().st_ino, directory.stat().st_size),
    ]


# --- order of effects ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [OLD, None], ids=["over a file", "new"])
@pytest.mark.parametrize("name", ["output.jsonl", "output.jsonl.gz", "output.jsonl.zst"])
def test_a_file_is_synced_whole_then_renamed_then_its_directory_is_synced(
    name: str, old: bytes | None, directory: Path, disk: Disk
) -> None:
    target = directory / name
    if old is not None:
        target.write_bytes(old)
    with Output(target) as output:
        for part in (CONTENT[:1000], CONTENT[1000:]):
            output.write(part)
        assert disk.effects == []
        output.publish()
        assert disk.effects == published(target, directory)
    assert disk.effects == published(target, directory), "leaving has no effect after publishing"


def test_a_run_syncs_the_output_and_its_directory(source: Path, directory: Path, disk: Disk) -> None:
    CALCULATION.run(source, directory / "output", workers=1)
    assert disk.effects == published(directory / "output", directory)
    assert files(directory) == {"output": transformed(500)}


def test_the_rejects_are_synced_and_renamed_before_the_output(source: Path, directory: Path, disk: Disk) -> None:
    source.write_bytes(CONTENT + b"no JSON\n")
    rejects, output = directory / "output.rejects.jsonl", directory / "output"
    CALCULATION.run(source, output, workers=1)
    assert disk.effects == published(rejects, directory) + published(output, directory)


@pytest.mark.parametrize("way", ["through a symlink", "in another directory"])
def test_the_directory_of_the_file_itself_is_synced(
    way: str, source: Path, directory: Path, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    target: Path = tmp_path / "link"
    if way == "through a symlink":
        target.symlink_to(directory / "output")
    else:
        monkeypatch.chdir(tmp_path)
        target = Path("out", "output")
    CALCULATION.run(source, target, workers=1)
    assert disk.effects == published(directory / "output", directory)


def test_what_is_discarded_is_neither_synced_nor_renamed(directory: Path, disk: Disk) -> None:
    (directory / "output").write_bytes(OLD)
    with Output(directory / "output") as output:
        output.write(CONTENT)
    assert disk.effects == []
    assert files(directory) == {"output": OLD}


@pytest.mark.parametrize("moment", ["before_sync", "before_rename"])
def test_another_run_does_not_sweep_a_file_that_is_being_published(moment: str, directory: Path, disk: Disk) -> None:
    target = directory / "output"

    def sweep() -> None:
        setattr(disk, moment, lambda: None)
        with Output(target) as other:
            other.write(b"of another run")

    setattr(disk, moment, sweep)
    write(target, CONTENT)
    assert files(directory) == {"output": CONTENT}


def test_the_permissions_are_those_of_the_old_file_when_the_new_one_appears(directory: Path, disk: Disk) -> None:
    target = directory / "output"
    target.write_bytes(OLD)
    target.chmod(0o600)
    seen: list[int] = []
    disk.before_rename = lambda: seen.extend(stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir())
    with Output(target) as output:
        output.publish()
    assert seen == [0o600, 0o600], "nobody else can read it, not even for a moment"


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before_sync", "before_rename"])
@pytest.mark.parametrize("old", [OLD, None], ids=["over a file", "new"])
def test_a_file_that_cannot_be_synced_or_renamed_is_not_published(
    moment: str, old: bytes | None, directory: Path, source: Path, disk: Disk
) -> None:
    if old is not None:
        (directory / "output").write_bytes(old)

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    setattr(disk, moment, fail)
    with pytest.raises(OutputError, match=f"^{directory / 'output'}: input/output error$"):
        CALCULATION.run(source, directory / "output")
    assert files(directory) == ({} if old is None else {"output": old})


def test_publishing_leaves_no_file_open(directory: Path, disk: Disk) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 # names of descriptors, of which one is that of the listing
    write(directory / "output", CONTENT)
    disk.before_rename = fail
    with pytest.raises(OutputError):
        write(directory / "output", CONTENT)
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208 # as above


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_partial_write_is_continued_until_it_fails(directory: Path) -> None:
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN  # or it would end the process
    (directory / "output").write_bytes(OLD)
    message = f"^{directory / 'output'}: file too large$"
    with Output(directory / "output") as output, largest_file(1000), pytest.raises(OutputError, match=message):
        output.write(CONTENT)
    assert files(directory) == {"output": OLD}


@pytest.mark.parametrize("name", ["output.gz", "output.bz2"])
def test_a_failure_to_write_the_end_of_a_compressed_file_is_reported(name: str, directory: Path) -> None:
    (directory / name).write_bytes(OLD)
    with Output(directory / name) as output:
        output.write(b"x")
        with largest_file(5), pytest.raises(OutputError, match=f"^{directory / name}: file too large$"):
            output.publish()
    assert files(directory) == {name: OLD}


class Abandoned(BaseException):
    """Something that is no Exception."""


ENDS: list[BaseException] = [OSError(5, "no"), ValueError(), KeyboardInterrupt(), SystemExit(1), Abandoned()]


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_any_exception_keeps_the_old_file(error: BaseException, directory: Path) -> None:
    (directory / "output").write_bytes(OLD)
    with pytest.raises(type(error)) as caught:
        write_until(directory / "output", CONTENT, error)
    assert caught.value is error
    assert files(directory) == {"output": OLD}


def test_a_generator_that_is_closed_publishes_nothing(directory: Path) -> None:
    (directory / "output").write_bytes(OLD)

    def writing() -> Iterator[None]:
        with Output(directory / "output") as output:
            output.write(CONTENT)
            yield
            output.publish()

    generator = writing()
    next(generator)
    assert len(files(directory)) == 2
    cast("Any", generator).close()
    assert files(directory) == {"output": OLD}


# --- content -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [CONTENT * 50, b"x", b""], ids=["much", "a byte", "nothing"])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_a_compressed_file_holds_all_that_was_written(codec: Any, content: bytes, directory: Path) -> None:
    for suffix in codec.suffixes:
        target = directory / f"output{suffix}"
        with Output(target) as output:
            for start in range(0, len(content), 10_000):
                output.write(memoryview(content)[start : start + 10_000])
            output.publish()
        assert output.size == len(content)
        stored = target.read_bytes()
        read, view = bytearray(), memoryview(bytearray(1 << 16))
        inflater = Inflater(io.BytesIO(stored).readinto, codec, target.name)
        while count := inflater.read_into(view):
            read += view[:count]
        assert bytes(read) == content
        assert len(stored) < max(100, len(content) // 2), "it is compressed"
