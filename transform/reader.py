"""An open input: its content, decompressed, and how far it was read."""

import os
import select
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from typing import Any, Protocol, TypeVar, cast

from transform import interrupts
from transform.compression import MAGIC_BYTES, Codec, Inflater, codec_of_content
from transform.errors import InputError, SourceChangedError
from transform.lines import ReadInto
from transform.s3 import S3Object

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
            with interrupts.interruptible():
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
