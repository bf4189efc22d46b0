"""Output: a local file, an S3 object, a pipe or a binary file object.

`Output` opens the right sink for a target, compresses if the name of the target says so, and counts. Files and objects
appear whole, when `publish` is called, or are discarded: a file by `FileSink`, an object by the sink in `s3_sink`. What
is written to a pipe is sent at once.
"""

import contextlib
import errno
import hashlib
import io
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_IFREG, S_IMODE, S_ISREG
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

from transform import _process
from transform.errors import OutputError
from transform.io import s3, s3_sink
from transform.io.compression import codec_of_name
from transform.io.conflicts import located, mode_at
from transform.io.s3_sink import PART_SIZES
from transform.io.s3_writer import PartSizes, ReadSoFar
from transform.io.temp_files import create_held, find_abandoned

Target = str | os.PathLike[str] | BinaryIO
"""A path, an `s3://bucket/key` URI, `-` for standard output, or a binary file object, which is written to at once."""


_POLL_S = 1.0
_DESCRIPTOR = re.compile(r"/dev/std(in|out|err)|/(?:dev|proc/self)/fd/(\d+)")


def is_stream(target: Target) -> bool:
    """Return whether a target is sent to at once, such as a pipe, so that nothing can be kept beside it either."""
    if not isinstance(target, str | os.PathLike) or str(target) == "-":
        return True
    if s3.is_uri(target):
        return False
    return _DESCRIPTOR.fullmatch(str(target)) is not None or not S_ISREG(mode_at(target) or S_IFREG)


class Sink(Protocol):
    """The destination of the bytes of an output."""

    name: str

    def write(self, data: memoryview | bytes) -> None:
        """Add to the content."""

    def publish(self) -> None:
        """Make the content appear whole, in place of an earlier one."""

    def discard(self) -> None:
        """Remove the content, if it can be removed."""


class Output:
    """An open output: a context manager that discards the output unless it was published.

    Args:
        target: The file, object or stream.
        read_so_far: Returns how much of the input was read.
        part_sizes: The sizes of the parts of an S3 object.

    Attributes:
        name: Its name in errors.
        size: How many bytes of content were written, before compression.
        streams: Whether content is sent at once, so that it cannot be discarded.

    Raises:
        OutputError: The target cannot be written to; raised by every method.
        OptionError: It is nothing that can be written to.
    """

    def __init__(
        self,
        target: Target,
        read_so_far: Callable[[], ReadSoFar] = lambda: (0, None),
        part_sizes: PartSizes = PART_SIZES,
    ) -> None:
        target = located("output", target)
        self._sink = _open_sink(target, read_so_far, part_sizes)
        self.name = self._sink.name
        codec = codec_of_name(self.name) if isinstance(target, str | os.PathLike) else None
        self._compressor = codec.compressor() if codec else None
        self._published = False
        self.streams = isinstance(self._sink, StreamSink)
        self.size = 0

    def write(self, data: memoryview | bytes) -> None:
        """Add to the content."""
        self.size += len(data)
        if self._compressor:
            data = self._compressor.compress(data)
        if len(data):
            self._sink.write(data)

    def publish(self) -> None:
        """Make the content appear whole, in place of an earlier one."""
        if self._compressor:
            self._sink.write(self._compressor.flush())
        self._sink.publish()
        self._published = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._published:
            self._sink.discard()


class FileSink:
    """A temporary file beside the target, which is renamed to it once it is complete and on disk."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = Path(os.path.realpath(path))  # the file that a symlink points to is replaced, not the link
        directory = self._path.parent
        # A hash, because a name of 255 bytes cannot be made longer.
        prefix = f".transform-{hashlib.sha256(os.fsencode(self._path.name)).hexdigest()[:16]}-"
        with _translate_errors(self.name):
            mode = None
            with contextlib.suppress(FileNotFoundError):
                mode = S_IMODE(self._path.stat().st_mode)
            for left in find_abandoned(directory, prefix):
                left.unlink(missing_ok=True)
            self._descriptor, self._temporary = create_held(directory, prefix)
            if mode is not None:
                os.fchmod(self._descriptor, mode)

    def write(self, data: memoryview | bytes) -> None:
        """Add to the content."""
        with _translate_errors(self.name):
            _write_all(self._descriptor, data)

    def publish(self) -> None:
        """Make the content appear whole, in place of an earlier one."""
        with _translate_errors(self.name):
            os.fsync(self._descriptor)  # otherwise a power cut could leave the new name on an empty file
            self._temporary.replace(self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        os.close(self._descriptor)

    def discard(self) -> None:
        """Remove the temporary file."""
        self._temporary.unlink(missing_ok=True)
        os.close(self._descriptor)


class StreamSink:
    """A pipe or a device: content is sent at once, and only the exit status shows whether it is complete."""

    def __init__(self, name: str, stream: BinaryIO, *, close: bool) -> None:
        self.name = name
        self._stream = stream
        self._close = close

    def write(self, data: memoryview | bytes) -> None:
        """Send the data."""
        with _translate_errors(self.name):
            view = memoryview(data)
            while view:
                with _process.interruptible():
                    count = self._stream.write(view)
                if count is None and isinstance(self._stream, io.RawIOBase):  # a pipe that does not block, and is full
                    select.select([], [self._stream], [], _POLL_S)
                    continue
                view = view[len(view) if count is None else count :]

    def publish(self) -> None:
        """Flush the stream, so that an error is raised while it can still be reported."""
        with _translate_errors(self.name):
            self._stream.flush()
        self.discard()

    def discard(self) -> None:
        """Close the stream if it was opened here; what was sent stays."""
        if self._close:
            self._stream.close()


def remove(target: str) -> None:
    """Remove the file or object that an earlier run has left at a path or URI, if there is one.

    Raises:
        OutputError: It cannot be removed.
    """
    if s3.is_uri(target):
        s3_sink.remove_object(target)
        return
    with _translate_errors(target):
        path = Path(os.path.realpath(target))
        if path.is_file():
            path.unlink()


def _open_sink(target: Target, read_so_far: Callable[[], ReadSoFar], part_sizes: PartSizes) -> Sink:
    if not isinstance(target, str | os.PathLike):
        return StreamSink(str(getattr(target, "name", "the output stream")), target, close=False)
    if s3.is_uri(target):
        return s3_sink.open_object(str(target), read_so_far, part_sizes)
    if str(target) == "-":
        if sys.stdout is None:
            raise OutputError("standard output is closed")
        return StreamSink("standard output", io.FileIO(sys.stdout.fileno(), "wb", closefd=False), close=True)
    path = Path(target)
    if descriptor := _DESCRIPTOR.fullmatch(str(path)):  # opening it by name would truncate a file behind it
        with _translate_errors(str(path)):
            number = {"in": 0, "out": 1, "err": 2}.get(descriptor[1]) if descriptor[1] else int(descriptor[2])
            return StreamSink(str(path), io.FileIO(cast("int", number), "wb", closefd=False), close=True)
    with _translate_errors(str(path)):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        if path.exists() and not path.is_file():
            with _process.interruptible():  # opening a named pipe waits for a reader
                return StreamSink(str(path), path.open("wb", buffering=0), close=True)
    return FileSink(path)


def _write_all(descriptor: int, data: memoryview | bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise OutputError(f"{name}: the reader closed the pipe; the output is incomplete") from None
    except OSError as error:
        raise to_output_error(name, error) from error


def to_output_error(name: str, error: OSError) -> OutputError:
    """Return the error of a file that cannot be written; a directory that does not exist is named."""
    directory = Path(name).parent
    if isinstance(error, FileNotFoundError) and not directory.is_dir():
        return OutputError(f"{name}: there is no directory {directory}")
    return OutputError(f"{name}: {(error.strerror or str(error)).lower()}")
