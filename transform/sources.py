"""Where input comes from: a local file, an S3 object, a pipe."""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Protocol, TypeVar, cast

from transform import interrupts, s3
from transform.compression import MAGIC_BYTES, Codec, Inflater, codec_of_content, codec_of_name
from transform.errors import InputError
from transform.lines import ReadInto
from transform.ranges import ReadAt

_POLL_S = 1.0


class _Stopping(Protocol):
    @property
    def stop(self) -> int: ...


P = TypeVar("P", bound=_Stopping)


class Readable(Protocol):
    """What bytes come from."""

    def readinto(self, view: memoryview, /) -> int | None:
        """Fill a part of the view; return how many bytes, 0 at the end."""


Source = str | os.PathLike[str] | Readable
"""A path, an `s3://bucket/key` URI, `-` for standard input, or a binary file object, which is read from where it is."""


Identity = tuple[object, ...]
"""What stays the same as long as an input does."""


@dataclass(frozen=True, slots=True)
class Pin:
    """An input as it was when it was opened, for others to open the same."""

    location: str
    identity: Identity


@dataclass(slots=True)
class Reader:
    """An open input.

    Attributes:
        name: What to call it in errors.
        size: Its size in bytes as stored, before decompression; None where only its end tells.
        position: How much of that was read.
        read_into: Reads its content, decompressed.
        check_unchanged: Raises if the input is no longer what was opened.
        pin: How to open it again, where it can be read from anywhere and not only from its start.
        promised: The format that its name promises.
    """

    name: str
    raw: Readable
    size: int | None
    check_unchanged: Callable[[], None]
    pin: Pin | None = None
    promised: Codec | None = None
    position: int = 0
    read_into: ReadInto = field(init=False)

    def __post_init__(self) -> None:
        start = memoryview(bytearray(MAGIC_BYTES))
        filled = 0
        while filled < len(start) and (count := self._read_raw(start[filled:])):
            filled += count
        start = start[:filled]
        self.read_into = _prefixed(start, self._read_raw)
        promised, found = self.promised, codec_of_content(bytes(start))
        if promised and found is not promised and not promised.magics[0].startswith(bytes(start)):
            raise InputError(f"{self.name}: named like {promised.name}, but the content is not in that format")
        if codec := promised or found:
            self.read_into = Inflater(self.read_into, codec, self.name).read_into
            self.pin = None

    def follow(self, pieces: Iterable[P]) -> Iterator[P]:
        """Yield pieces of the input that others read, and count them as read."""
        for piece in pieces:
            self.position = piece.stop
            yield piece

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
            with interrupts.waiting():
                while (count := self.raw.readinto(view)) is None:  # a pipe that does not block, and has nothing yet
                    select.select([cast("FileIO", self.raw)], [], [], _POLL_S)
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
        name = str(source)
        with contextlib.closing(s3.ObjectReader(name)) as body:  # which asks for each range with If-Match
            yield Reader(name, body, body.size, lambda: None, Pin(name, (body.etag,)), codec_of_name(name))
    elif str(source) == "-":
        with FileIO(_standard_input(), closefd=False) as raw:
            yield _open_descriptor("standard input", raw, None)
    else:
        path = Path(source)
        try:
            with interrupts.waiting():  # for whoever writes into a pipe of that name
                raw = FileIO(path)
        except OSError as error:
            raise InputError(f"{path}: {_explain(error)}") from None
        with raw:
            yield _open_descriptor(str(path), raw, path)


@contextlib.contextmanager
def open_pin(pin: Pin) -> Iterator[ReadAt]:
    """Open a pinned input for reading from anywhere.

    Raises:
        InputError: It is gone, or not the same any more; by the reader too.
    """
    if s3.is_uri(pin.location):
        with contextlib.closing(s3.ObjectReader(pin.location)) as body:
            if (body.etag,) != pin.identity:
                raise InputError(f"{pin.location}: changed while it was read; nothing was published")
            yield body.read_at
        return
    try:
        descriptor = os.open(pin.location, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{pin.location}: vanished while it was read: {_explain(error)}") from None

    def read_at(view: memoryview, offset: int) -> int:
        try:
            return os.preadv(descriptor, [view], offset)
        except OSError as error:
            raise InputError(f"{pin.location}: {_explain(error)}") from error

    try:
        if _identity(os.fstat(descriptor)) != pin.identity:
            raise InputError(f"{pin.location}: changed while it was read; nothing was published")
        yield read_at
    finally:
        os.close(descriptor)


def reopenable(source: Source) -> bool:
    """Return whether the source can be read a second time from its start."""
    if not isinstance(source, str | os.PathLike) or str(source) == "-":
        return False
    return s3.is_uri(source) or Path(source).is_file()


def _open_descriptor(name: str, raw: FileIO, path: Path | None) -> Reader:
    opened = os.fstat(raw.fileno())
    if S_ISDIR(opened.st_mode):
        raise InputError(f"{name}: is a directory")
    if not S_ISREG(opened.st_mode):
        return Reader(name, raw, None, lambda: None)

    def check_unchanged() -> None:
        try:
            now = path.stat() if path else os.fstat(raw.fileno())
        except OSError as error:
            raise InputError(f"{name}: vanished while it was read: {_explain(error)}") from None
        if _identity(now) != _identity(opened):
            raise InputError(f"{name}: changed while it was read; nothing was published")

    if path is None:  # it may have been read from before
        return Reader(name, raw, None, check_unchanged)
    return Reader(name, raw, opened.st_size, check_unchanged, Pin(name, _identity(opened)), codec_of_name(name))


def _standard_input() -> int:
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return sys.stdin.fileno()


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _explain(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
