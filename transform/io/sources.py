"""Input: a local file, an S3 object, a pipe or a binary file object.

`open_source` opens one, detects how it is compressed, goes to where reading starts, and yields a `Reader`.
"""

import contextlib
import glob
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from stat import S_IFREG, S_ISDIR, S_ISREG
from typing import Any, Protocol, TypeVar, cast

from transform import _process
from transform.errors import InputError, SourceChangedError
from transform.io import s3
from transform.io.chunks import ReadInto, fill, put_back
from transform.io.compression import HEAD_BYTES, MAGIC_BYTES, Codec, Inflater, Labels
from transform.io.conflicts import located, mode_at
from transform.io.object_checksum import ObjectChecksum
from transform.io.ranges import RandomAccess
from transform.io.s3 import S3Object
from transform.io.s3_reader import ObjectReader
from transform.io.source_info import SourceInfo

_POLL_S = 1.0
_SKIP_BYTES = 1 << 20


class Readable(Protocol):
    """A binary stream."""

    def readinto(self, view: memoryview, /) -> int | None:
        """Fill a part of the view; return the number of bytes, 0 at the end, None if nothing has arrived yet."""


Source = str | os.PathLike[str] | Readable
"""A path, an `s3://bucket/key` URI, an `S3Object`, `-` for standard input, or a binary file object, which is read from
its current position."""

Identity = tuple[object, ...]
"""The properties of an input that change if its content does."""


@dataclass(frozen=True, slots=True)
class InputVersion:
    """An input as it was when it was opened, so that other processes can open the same version.

    Attributes:
        location: The path or the object.
        identity: The properties by which versions are compared.
    """

    location: str | S3Object
    identity: Identity


@dataclass(frozen=True, slots=True)
class Position:
    """A position from which an input is read.

    Attributes:
        offset: In bytes, after decompression.
        codec: The name of the format that it is compressed in, None if it is not compressed.
    """

    offset: int
    codec: str | None


class _HasStop(Protocol):
    @property
    def stop(self) -> int: ...


P = TypeVar("P", bound=_HasStop)


def _never_changes() -> None:
    """Check nothing: each range of an object is requested with If-Match, and a pipe cannot be compared."""


@dataclass(slots=True)
class StoredInput:
    """The bytes of an input as they are stored, before decompression.

    Attributes:
        name: The name of the input in errors.
        raw: Where the bytes are read from.
        position: Offset of the next byte to be read.
        checksum: The checksum that the bytes are added to, None for none.
    """

    name: str
    raw: Readable
    position: int = 0
    checksum: ObjectChecksum | None = None

    def read_into(self, view: memoryview) -> int:
        """Fill a part of the view; return the number of bytes, 0 at the end.

        Raises:
            InputError: The input cannot be read.
        """
        try:
            with _process.interruptible():
                while (count := self.raw.readinto(view)) is None:  # a non-blocking pipe that has nothing yet
                    select.select([cast("FileIO", self.raw)], [], [], _POLL_S)
        except OSError as error:
            raise InputError(f"{self.name}: {describe_os_error(error)}") from error
        self.position += count
        if self.checksum is not None:
            self.checksum.update(view[:count])
        return count


@dataclass(frozen=True, slots=True)
class Reader:
    """An open input.

    Attributes:
        stored: Its bytes before decompression.
        read_into: Reads its content, decompressed.
        size: Its size in bytes before decompression; None if only its end shows it.
        version: How others open the same input, if it can be read from any offset.
        start: Where its content is read from, None for its start.
        codec: The format that it is compressed in, None if it is not compressed.
        headers: The properties of an object, by the names that boto3 uses.
        notes: Notes for the user on how it is stored.
        checksum: The checksum that an object has and its bytes must have, None without one. It
            counts what is read if the object is compressed; else the chunks are to be added to it.
        check_unchanged: Raises InputError if the input is no longer what was opened.
        info: What is known of it beside its content.
    """

    stored: StoredInput
    read_into: ReadInto
    size: int | None = None
    version: InputVersion | None = None
    start: Position | None = None
    codec: Codec | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    checksum: ObjectChecksum | None = None
    check_unchanged: Callable[[], None] = _never_changes
    info: SourceInfo = field(default_factory=SourceInfo)

    @property
    def name(self) -> str:
        """Its name in errors."""
        return self.stored.name

    @property
    def position(self) -> int:
        """How much of it has been read, in bytes before decompression."""
        return self.stored.position

    def follow(self, pieces: Iterable[P]) -> Iterator[P]:
        """Yield pieces of the input that others have read, and count them as read."""
        for piece in pieces:
            self.stored.position = piece.stop
            yield piece

    def check_whole(self) -> None:
        """Raise unless the input has been read completely and has not changed since it was opened.

        Raises:
            InputError: It changed or vanished while it was read.
        """
        if self.size is not None and self.position != self.size:
            raise InputError(
                f"{self.name}: changed while it was read: {self.position} bytes came instead of {self.size}"
            )
        self.check_unchanged()


@contextlib.contextmanager
def open_source(source: Source, start: Position | None = None, max_inflation: int | None = None) -> Iterator[Reader]:
    """Open an input.

    Args:
        source: The input.
        start: Position from which to continue; the source must be `reopenable`.
        max_inflation: Maximum size of compressed content, as a multiple of its compressed size; None for any size.

    Raises:
        InputError: It does not exist or cannot be read.
        OptionError: It is nothing that can be read.
    """
    source = located("input", source)
    if start is not None and _is_stream(source):
        raise InputError(f"{source}: can't be resumed: only files and S3 objects can be read again")
    with _open_stored(source, start) as opened:
        # Only the name of a file or an object says something; a pipe may have any name.
        is_named = opened.version is not None
        labels = Labels.of(opened.name, opened.headers.get("ContentEncoding") or "") if is_named else Labels()
        if start is not None and start.codec is None:
            _seek(opened, start.offset, labels)
            yield replace(opened, start=start, notes=tuple(labels.notes(None)))
            return
        reader = _decompress(opened, labels, max_inflation)
        if start is not None:
            _skip(reader, start)
        yield replace(reader, start=start)


OpenSource = Callable[[Source, Position | None, int | None], AbstractContextManager[Reader]]
"""How an input is opened: as `open_source` does."""


def _open_stored(source: Source, start: Position | None) -> AbstractContextManager[Reader]:
    """Open an input whose bytes are read as they are stored."""
    if not isinstance(source, str | os.PathLike):
        stored = StoredInput(str(getattr(source, "name", "the input stream")), source)
        return contextlib.nullcontext(Reader(stored, stored.read_into))
    if s3.is_uri(source):
        return _open_object(source, start.offset if start is not None and start.codec is None else 0)
    return _open_standard_input() if str(source) == "-" else _open_file(Path(source))


@contextlib.contextmanager
def _open_object(source: "str | os.PathLike[str]", offset: int) -> Iterator[Reader]:
    location = source if isinstance(source, s3.S3Object) else str(source)
    with contextlib.closing(ObjectReader.open(location, offset)) as body:
        stored = StoredInput(str(source), body, offset)
        version = InputVersion(location, (body.etag, body.size))
        place = s3.object_at(location)
        info = SourceInfo.from_object(place.bucket, place.key, body.headers)
        yield Reader(
            stored, stored.read_into, body.size, version, headers=body.headers, checksum=body.checksum, info=info
        )


@contextlib.contextmanager
def _open_standard_input() -> Iterator[Reader]:
    if sys.stdin is None:
        raise InputError("standard input is closed")
    with FileIO(sys.stdin.fileno(), closefd=False) as raw:
        stored = StoredInput("standard input", raw)
        status = _status(stored.name, raw)
        # A file that is standard input may have been read in part before, so its size is not the size of the input.
        check_unchanged = _change_check(stored.name, status, lambda: os.fstat(raw.fileno()))
        yield Reader(stored, stored.read_into, check_unchanged=check_unchanged)


@contextlib.contextmanager
def _open_file(path: Path) -> Iterator[Reader]:
    try:
        with _process.interruptible():  # opening a named pipe waits for a writer
            raw = FileIO(path)
    except OSError as error:
        hint = "; one input at a time: call it for each file of glob.glob(…)" if glob.has_magic(str(path)) else ""
        raise InputError(f"{path}: {describe_os_error(error)}{hint}") from None
    with raw:
        stored = StoredInput(str(path), raw)
        status = _status(stored.name, raw)
        if not S_ISREG(status.st_mode):
            yield Reader(stored, stored.read_into)
            return
        version = InputVersion(stored.name, _identity(status))
        check_unchanged = _change_check(stored.name, status, path.stat)
        info = SourceInfo.from_file(stored.name, status)
        yield Reader(stored, stored.read_into, status.st_size, version, check_unchanged=check_unchanged, info=info)


def _status(name: str, raw: FileIO) -> os.stat_result:
    status = os.fstat(raw.fileno())
    if S_ISDIR(status.st_mode):
        raise InputError(f"{name}: is a directory")
    return status


def _change_check(name: str, opened: os.stat_result, current: Callable[[], os.stat_result]) -> Callable[[], None]:
    """Return a check that a file is the one that was opened; a pipe or a device is not checked."""

    def check() -> None:
        try:
            now = current()
        except OSError as error:
            raise InputError(f"{name}: vanished while it was read: {describe_os_error(error)}") from None
        if _identity(now) != _identity(opened):
            raise InputError(f"{name}: changed while it was read; nothing was published")

    return check if S_ISREG(opened.st_mode) else _never_changes


def _seek(opened: Reader, offset: int, labels: Labels) -> None:
    """Go to an offset of an input that was not compressed when it was read before."""
    raw = opened.stored.raw
    if isinstance(raw, FileIO):  # an object was opened at the offset, and a look at its start would take a request
        try:
            magic = os.pread(raw.fileno(), MAGIC_BYTES, 0)
            raw.seek(offset)
        except (OSError, OverflowError) as error:
            reason = describe_os_error(error) if isinstance(error, OSError) else str(error)
            raise InputError(f"{opened.name}: can't be read from offset {offset} on: {reason}") from error
        if labels.codec_of(magic) is not None:
            raise SourceChangedError(f"{opened.name}: is not what was read before")
        opened.stored.position = offset


def _decompress(opened: Reader, labels: Labels, max_inflation: int | None) -> Reader:
    """Return a reader of the content, decompressed if it is compressed.

    Raises:
        InputError: It is corrupt, or it is not what it is said to be, and not JSON lines either.
    """
    magic, reader = _peek(opened, MAGIC_BYTES)
    codec = labels.codec_of(magic)
    if codec is not None:
        if opened.checksum is not None:  # of the bytes as they are stored, which only this process reads
            opened.checksum.update(magic)
            opened.stored.checksum = opened.checksum
        inflater = Inflater(reader.read_into, codec, opened.name, max_inflation)
        reader = replace(reader, read_into=inflater.read_into, codec=codec, version=None)
    if not magic or labels.agree(codec):
        return reader
    head, reader = _peek(reader, HEAD_BYTES)
    try:
        labels.check(codec, head)
    except InputError as error:
        raise InputError(f"{opened.name}: {error}") from None
    return replace(reader, notes=tuple(labels.notes(codec)))


def _peek(reader: Reader, count: int) -> tuple[bytes, Reader]:
    """Return the next bytes, fewer only if there are no more, and a reader that reads them as well."""
    start = memoryview(bytearray(count))
    start = start[: fill(reader.read_into, start)]
    return bytes(start), replace(reader, read_into=put_back(start, reader.read_into))


def _skip(reader: Reader, start: Position) -> None:
    """Read again what was read before, up to a position in compressed content."""
    left, scratch = start.offset, memoryview(bytearray(_SKIP_BYTES))
    while reader.codec and left and (count := reader.read_into(scratch[: min(left, _SKIP_BYTES)])):
        left -= count
    if left or not reader.codec or reader.codec.name != start.codec:
        raise SourceChangedError(f"{reader.name}: is not what was read before")


def describe_os_error(error: OSError) -> str:
    """Return the reason of an error, as the end of a message."""
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def open_version(version: InputVersion) -> Iterator[RandomAccess]:
    """Open a version of an input that can be read from any offset.

    Raises:
        InputError: It no longer exists or has changed; reading raises it, too.
    """
    if s3.is_uri(version.location):
        etag, size = cast("tuple[str, int]", version.identity)
        location = replace(s3.object_at(version.location), etag=etag)
        with contextlib.closing(ObjectReader.from_version(location, size)) as body:
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


@dataclass(frozen=True, slots=True)
class _LocalFile:
    """A local file that is read from any offset."""

    descriptor: int
    name: str

    def read_at(self, view: memoryview, offset: int) -> int:
        try:
            return os.preadv(self.descriptor, [view], offset)
        except OSError as error:
            raise InputError(f"{self.name}: {describe_os_error(error)}") from error

    def prefetch(self, offset: int) -> None:
        """Do nothing: the operating system reads ahead by itself."""


def reopenable(source: Source) -> bool:
    """Return whether the source can be read a second time from its start."""
    source = located("input", source)
    if not isinstance(source, str | os.PathLike) or str(source) == "-":
        return False
    return s3.is_uri(source) or S_ISREG(mode_at(source) or 0)


def _is_stream(source: Source) -> bool:
    """Return whether a source can be read only once, from its current position; False if it does not exist."""
    if not isinstance(source, str | os.PathLike) or str(source) == "-":
        return True
    return not s3.is_uri(source) and not S_ISREG(mode_at(source) or S_IFREG)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
