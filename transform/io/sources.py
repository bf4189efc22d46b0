"""Where input comes from: a local file, an S3 object, a pipe.

An open input: its content, decompressed, and how far it was read.
"""

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Protocol, TypeVar, cast

from transform import _process
from transform.errors import InputError, SourceChangedError
from transform.io import s3
from transform.io.chunks import RandomAccess, ReadInto
from transform.io.compression import MAGIC_BYTES, Codec, Inflater, codec_of_content, codec_of_name
from transform.io.conflicts import no_place
from transform.io.s3 import S3Object
from transform.io.s3_reader import ObjectReader

_POLL_S = 1.0
_SKIP_BYTES = 1 << 20


class _Stopping(Protocol):
    @property
    def stop(self) -> int: ...


P = TypeVar("P", bound=_Stopping)


class Readable(Protocol):
    """What bytes come from."""

    def readinto(self, view: memoryview, /) -> int | None:
        """Fill a part of the view; return how many bytes, 0 at the end."""


Identity = tuple[object, ...]
"""What stays the same as long as an input does."""


@dataclass(frozen=True, slots=True)
class InputVersion:
    """An input as it was when it was opened, for others to open the same."""

    location: str | S3Object
    identity: Identity


@dataclass(frozen=True, slots=True)
class Position:
    """Where to go on reading an input.

    Attributes:
        offset: In bytes, after decompression.
        codec: The name of the format that it is compressed in, None where it is not.
    """

    offset: int
    codec: str | None


@dataclass(slots=True)
class Reader:
    """An open input.

    Attributes:
        name: What to call it in errors.
        size: Its size in bytes as stored, before decompression; None where only its end tells.
        position: How much of that was read.
        read_into: Reads its content, decompressed.
        check_unchanged: Raises if the input is no longer what was opened.
        version: How to open it again, where it can be read from anywhere and not only from its start.
        promised: The format that its name promises.
        start: Where it is read from, None for its start.
        headers: Of an object, what S3 says of it.
        codec: The format that it is compressed in, None where it is not.
        max_inflation: How many times its size it may inflate to; None for any number of times.
    """

    name: str
    raw: Readable
    size: int | None
    check_unchanged: Callable[[], None]
    version: InputVersion | None = None
    promised: Codec | None = None
    start: Position | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    position: int = 0
    codec: Codec | None = None
    max_inflation: int | None = None
    read_into: ReadInto = field(init=False)

    def __post_init__(self) -> None:
        self.read_into = self._read_raw
        if self.start is not None and self.start.codec is None:
            self._seek(self.start.offset)
            return
        magic = memoryview(bytearray(MAGIC_BYTES))
        magic = magic[: _fill(self._read_raw, magic)]
        self.read_into = _prefixed(magic, self._read_raw)
        found = codec_of_content(bytes(magic))
        if self.promised and found is not self.promised and not self.promised.magics[0].startswith(bytes(magic)):
            raise InputError(f"{self.name}: named like {self.promised.name}, but the content is not in that format")
        if codec := self.promised or found:
            self.codec = codec
            self.read_into = Inflater(self.read_into, codec, self.name, self.max_inflation).read_into
            self.version = None
        if self.start is not None:
            self._skip(self.start)

    def _seek(self, offset: int) -> None:
        """Go on where reading has stopped before."""
        # To look at the start of an object would take one more request.
        magic = os.pread(self.raw.fileno(), MAGIC_BYTES, 0) if isinstance(self.raw, FileIO) else b""
        if self.promised or codec_of_content(magic):
            raise SourceChangedError(f"{self.name}: is not what was read before")
        cast("FileIO", self.raw).seek(offset)
        self.position = offset

    def _skip(self, start: Position) -> None:
        """Inflate again what was read before."""
        left, scratch = start.offset, memoryview(bytearray(_SKIP_BYTES))
        while self.codec and left and (count := self.read_into(scratch[: min(left, _SKIP_BYTES)])):
            left -= count
        if left or not self.codec or self.codec.name != start.codec:
            raise SourceChangedError(f"{self.name}: is not what was read before")

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
            with _process.interruptible():
                while (count := self.raw.readinto(view)) is None:  # a pipe that does not block, and has nothing yet
                    select.select([cast("FileIO", self.raw)], [], [], _POLL_S)
        except OSError as error:
            raise InputError(f"{self.name}: {describe_os_error(error)}") from error
        self.position += count
        return count


def _fill(read_into: ReadInto, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (count := read_into(view[filled:])):
        filled += count
    return filled


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


def describe_os_error(error: OSError) -> str:
    """Return what went wrong, as the end of a message."""
    return (error.strerror or str(error)).lower()


Source = str | os.PathLike[str] | Readable
"""A path, an `s3://bucket/key` URI, an `S3Object`, `-` for standard input, or a binary file object where it stands."""


@contextlib.contextmanager
def open_source(source: Source, start: Position | None = None, max_inflation: int | None = None) -> Iterator[Reader]:
    """Open an input.

    Args:
        source: Which.
        start: Where to go on reading one that was read before; it has to be one that `reopenable` says is.
        max_inflation: How many times its size it may inflate to, where it is compressed; None for any number of times.

    Raises:
        InputError: It is not there or cannot be read.
    """
    if start is not None and _is_stream(source):
        raise InputError(f"{source}: can't be gone on with: it is not a file or an object, which can be read again")
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "readinto"):
            raise no_place("input", source)
        yield Reader(
            str(getattr(source, "name", "the input stream")), source, None, lambda: None, max_inflation=max_inflation
        )
    elif s3.is_uri(source):
        with _open_object(source, start, max_inflation) as reader:
            yield reader
    elif str(source) == "-":
        with FileIO(_standard_input(), closefd=False) as raw:
            yield _open_descriptor("standard input", raw, None, max_inflation=max_inflation)
    else:
        path = Path(source)
        try:
            with _process.interruptible():  # for whoever writes into a pipe of that name
                raw = FileIO(path)
        except OSError as error:
            raise InputError(f"{path}: {describe_os_error(error)}") from None
        with raw:
            yield _open_descriptor(str(path), raw, path, start, max_inflation)


@contextlib.contextmanager
def _open_object(
    source: "str | os.PathLike[str]", start: Position | None, max_inflation: int | None
) -> Iterator[Reader]:
    location = source if isinstance(source, s3.S3Object) else str(source)
    from_where = start.offset if start is not None and start.codec is None else 0
    # Each range is asked for with If-Match, so there is nothing to check at the end.
    with contextlib.closing(ObjectReader(location, from_where)) as body:
        name = str(source)
        version = InputVersion(location, (body.etag, body.size))
        yield Reader(
            name,
            body,
            body.size,
            lambda: None,
            version,
            codec_of_name(name),
            start,
            body.headers,
            max_inflation=max_inflation,
        )


@contextlib.contextmanager
def open_version(version: InputVersion) -> Iterator[RandomAccess]:
    """Open a pinned input for reading from anywhere.

    Raises:
        InputError: It is gone, or not the same any more; by the reader too.
    """
    if s3.is_uri(version.location):
        etag, size = cast("tuple[str, int]", version.identity)
        location = replace(s3.object_at(version.location), etag=etag)
        with contextlib.closing(ObjectReader(location, size=size)) as body:
            yield body
        return
    try:
        descriptor = os.open(version.location, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{version.location}: vanished while it was read: {describe_os_error(error)}") from None

    try:
        if _identity(os.fstat(descriptor)) != version.identity:
            raise InputError(f"{version.location}: changed while it was read; nothing was published")
        yield _LocalFile(descriptor, str(version.location))
    finally:
        os.close(descriptor)


class _LocalFile:
    """A file read from anywhere; what it is expected to be read from next, the system reads ahead by itself."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name

    def read_at(self, view: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._descriptor, [view], offset)
        except OSError as error:
            raise InputError(f"{self._name}: {describe_os_error(error)}") from error

    def prefetch(self, offset: int) -> None:
        pass


def reopenable(source: Source) -> bool:
    """Return whether the source can be read a second time from its start."""
    if not isinstance(source, str | os.PathLike) or str(source) == "-":
        return False
    return s3.is_uri(source) or Path(source).is_file()


def _is_stream(source: Source) -> bool:
    """Return whether a source can only be read from where it stands; of what is not there, nobody knows."""
    if not isinstance(source, str | os.PathLike) or str(source) == "-":
        return True
    return not s3.is_uri(source) and Path(source).exists() and not Path(source).is_file()


def _open_descriptor(
    name: str, raw: FileIO, path: Path | None, start: Position | None = None, max_inflation: int | None = None
) -> Reader:
    opened = os.fstat(raw.fileno())
    if S_ISDIR(opened.st_mode):
        raise InputError(f"{name}: is a directory")
    if not S_ISREG(opened.st_mode):
        return Reader(name, raw, None, lambda: None, max_inflation=max_inflation)

    def check_unchanged() -> None:
        try:
            now = path.stat() if path else os.fstat(raw.fileno())
        except OSError as error:
            raise InputError(f"{name}: vanished while it was read: {describe_os_error(error)}") from None
        if _identity(now) != _identity(opened):
            raise InputError(f"{name}: changed while it was read; nothing was published")

    if path is None:  # it may have been read from before
        return Reader(name, raw, None, check_unchanged, max_inflation=max_inflation)
    version = InputVersion(name, _identity(opened))
    promised = codec_of_name(name)
    return Reader(name, raw, opened.st_size, check_unchanged, version, promised, start, max_inflation=max_inflation)


def _standard_input() -> int:
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return sys.stdin.fileno()


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
