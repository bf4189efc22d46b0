"""Where input comes from: a local file, an S3 object, a pipe."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Protocol

from transform import s3
from transform.compression import MAGIC_BYTES, Inflater, codec_of_content, codec_of_name
from transform.errors import InputError
from transform.lines import ReadInto


class Readable(Protocol):
    """What bytes come from."""

    def readinto(self, view: memoryview, /) -> int | None:
        """Fill a part of the view; return how many bytes, 0 at the end."""


Source = str | os.PathLike[str] | Readable
"""A path, an `s3://bucket/key` URI, `-` for standard input, or a binary file object, which is read from where it is."""


@dataclass(slots=True)
class Reader:
    """An open input.

    Attributes:
        name: What to call it in errors.
        size: Its size in bytes as stored, before decompression; None where only its end tells.
        position: How much of that was read.
        read_into: Reads its content, decompressed.
        check_unchanged: Raises if the input is no longer what was opened.
    """

    name: str
    raw: Readable
    size: int | None
    check_unchanged: Callable[[], None]
    position: int = 0
    read_into: ReadInto = field(init=False)

    def __post_init__(self) -> None:
        start = memoryview(bytearray(MAGIC_BYTES))
        filled = 0
        while filled < len(start) and (count := self._read_raw(start[filled:])):
            filled += count
        start = start[:filled]
        self.read_into = _prefixed(start, self._read_raw)
        promised, found = codec_of_name(self.name), codec_of_content(bytes(start))
        if promised and found is not promised and not promised.magics[0].startswith(bytes(start)):
            raise InputError(f"{self.name}: named like {promised.name}, but the content is not in that format")
        if codec := promised or found:
            self.read_into = Inflater(self.read_into, codec, self.name).read_into

    def check_whole(self) -> None:
        """Raise unless everything that was there when it was opened has been read, and is still the same.

        Raises:
            InputError: It changed or vanished while it was read.
        """
        if self.size is not None and self.position != self.size:
            raise InputError(
                f"{self.name}: changed while it was read: {self.position} bytes came instead of {self.size}"
            )
        self.check_unchanged()

    def _read_raw(self, view: memoryview) -> int:
        try:
            count = self.raw.readinto(view) or 0
        except OSError as error:
            raise InputError(f"{self.name}: {_explain(error)}") from error
        self.position += count
        return count


def _prefixed(start: memoryview, read_into: ReadInto) -> ReadInto:
    """Return a reader of bytes that were read already, and then of the rest."""

    def read(view: memoryview) -> int:
        nonlocal start
        if not start:
            return read_into(view)
        count = min(len(start), len(view))
        view[:count] = start[:count]
        start = start[count:]
        return count

    return read


@contextlib.contextmanager
def open_source(source: Source) -> Iterator[Reader]:
    """Open an input.

    Raises:
        InputError: It is not there or cannot be read.
    """
    if not isinstance(source, str | os.PathLike):
        yield Reader(str(getattr(source, "name", "the input stream")), source, None, lambda: None)
    elif s3.is_uri(source):
        with s3.open_object(str(source)) as (body, size):
            yield Reader(str(source), body, size, lambda: None)  # each range is asked for with If-Match
    elif str(source) == "-":
        with FileIO(sys.stdin.fileno(), closefd=False) as raw:
            yield _open_descriptor("standard input", raw, None)
    else:
        path = Path(source)
        try:
            raw = FileIO(path)
        except OSError as error:
            raise InputError(f"{path}: {_explain(error)}") from None
        with raw:
            yield _open_descriptor(str(path), raw, path)


def reopenable(source: Source) -> bool:
    """Return whether the source can be read a second time from its start."""
    if not isinstance(source, str | os.PathLike) or str(source) == "-":
        return False
    return s3.is_uri(source) or Path(source).is_file()


def _open_descriptor(name: str, raw: FileIO, path: Path | None) -> Reader:
    opened = os.fstat(raw.fileno())
    if S_ISDIR(opened.st_mode):
        raise InputError(f"{name}: is a directory")
    if path is None or not S_ISREG(opened.st_mode):
        return Reader(name, raw, None, lambda: None)

    def check_unchanged() -> None:
        try:
            now = path.stat()
        except OSError as error:
            raise InputError(f"{name}: vanished while it was read: {_explain(error)}") from None
        if _identity(now) != _identity(opened):
            raise InputError(f"{name}: changed while it was read; nothing was published")

    return Reader(name, raw, opened.st_size, check_unchanged)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _explain(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
