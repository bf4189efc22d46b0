"""Where input comes from: a local file, an S3 object, a pipe."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import cast

from transform import interrupts, s3
from transform.apart import no_place
from transform.compression import codec_of_name
from transform.errors import InputError
from transform.object_reader import ObjectReader
from transform.ranges import RandomAccess
from transform.reader import Identity, InputVersion, Position, Readable, Reader, describe_os_error

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
            with interrupts.interruptible():  # for whoever writes into a pipe of that name
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
