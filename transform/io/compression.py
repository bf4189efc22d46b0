"""Compressed streams: gzip, zstd, bz2 and xz, read strictly and written.

The file objects of the standard library read a bz2 or xz file whose second stream is corrupt as a valid, shorter file,
because they take that stream for trailing garbage. Here every byte has to belong to a stream, and every stream has to
end.
"""

import bz2
import lzma
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from isal import igzip_lib, isal_zlib

from transform.errors import InputError
from transform.io.chunks import ReadInto, fill

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_READ_BYTES = 256 << 10
_HEADER_BYTES = 64 << 10  # given to a decompressor at once: isal loses its place if a header comes in pieces
_HARMLESS_BYTES = 256 << 20  # always inflated: a short file of a few long lines is not a bomb
_PADDED = ("gzip", "xz")  # formats that allow zeros after and between their streams
_GZIP_WINDOW_BITS = 31  # of zlib: a deflate window of 15 bits, in a gzip wrapper
_CORRUPT: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, lzma.LZMAError, zstd.ZstdError, igzip_lib.error)  # type: ignore[assignment] # isal's is typed as an instance


class Compressor(Protocol):
    """The interface of all compressor objects."""

    def compress(self, data: Any, /) -> bytes:
        """Add content; return the part of the stream that is ready."""

    def flush(self) -> bytes:
        """Return the rest of the stream."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression format.

    Attributes:
        name: Its usual name.
        suffixes: Endings of the names of its files.
        magics: Possible first bytes of its files.
        decompressor: Makes an object for one stream, with the interface of `bz2.BZ2Decompressor`.
        compressor: Makes an object for one stream.

    Example:
        >>> gzip = codec_of_name("in.jsonl.gz")
        >>> gzip.name, gzip.decompressor().decompress(gzip.compressor().flush())
        ('gzip', b'')
    """

    name: str
    suffixes: tuple[str, ...]
    magics: tuple[bytes, ...]
    decompressor: Callable[[], Any]
    compressor: Callable[[], Compressor]


def _zstd_compressor() -> Compressor:
    return zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})


CODECS = (
    Codec(
        "gzip",
        (".gz", ".gzip"),
        (b"\x1f\x8b",),
        lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),
        lambda: isal_zlib.compressobj(level=2, wbits=_GZIP_WINDOW_BITS),
    ),
    Codec(
        "zstd",
        (".zst", ".zstd"),
        (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))),
        zstd.ZstdDecompressor,
        _zstd_compressor,
    ),
    Codec("bz2", (".bz2",), (b"BZh",), bz2.BZ2Decompressor, bz2.BZ2Compressor),
    Codec(
        "xz",
        (".xz",),
        (b"\xfd7zXZ\x00",),
        lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ),
        lzma.LZMACompressor,
    ),
)
MAGIC_BYTES = 6
"""Number of bytes at the start of a file that show its format."""


def codec_of_name(name: str) -> Codec | None:
    """Return the format that the name of a file indicates, None for plain text.

    Args:
        name: A path, a key or a URI.

    Example:
        >>> codec_of_name("in.jsonl.zst").name
        'zstd'
    """
    return next((codec for codec in CODECS if name.lower().endswith(codec.suffixes)), None)


def codec_of_encoding(token: str) -> Codec | None:
    """Return the format that a token of a `Content-Encoding` names, None for an unknown one.

    Args:
        token: One of the names between the commas, in upper or lower case.

    Example:
        >>> codec_of_encoding("x-gzip").name
        'gzip'
    """
    token = token.strip().lower().removeprefix("x-").replace("bzip2", "bz2")
    return next((codec for codec in CODECS if token in {codec.name, *(suffix[1:] for suffix in codec.suffixes)}), None)


def codec_of_content(start: bytes) -> Codec | None:
    """Return the format that the first `MAGIC_BYTES` bytes of a file show, None for plain text."""
    return next((codec for codec in CODECS if start.startswith(codec.magics)), None)


class Inflater:
    """Reads the content of a compressed input: all its members, streams or frames.

    Args:
        read_into: Reads the compressed bytes.
        codec: Their format.
        name: The name of the input in errors.
        max_inflation: Maximum size of the content, as a multiple of the bytes that were read; None for any size.
        harmless_bytes: Size of content up to which `max_inflation` does not apply.
    """

    def __init__(
        self,
        read_into: ReadInto,
        codec: Codec,
        name: str,
        max_inflation: int | None = None,
        harmless_bytes: int = _HARMLESS_BYTES,
    ) -> None:
        self._read_into = read_into
        self._codec = codec
        self._name = name
        self._max_inflation = max_inflation
        self._harmless_bytes = harmless_bytes
        self._bytes_in = self._bytes_out = 0
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._pending = b""
        self._decompressor: Any = codec.decompressor()  # there has to be at least one stream

    def read_into(self, view: memoryview) -> int:
        """Fill a part of the view; return the number of bytes, 0 at the end.

        Raises:
            InputError: The content is corrupt, truncated, or larger than allowed.
        """
        while True:
            if self._decompressor.eof and not self._next_stream():
                return 0
            if self._decompressor.needs_input and not self._pending:
                self._pending = self._read()
                if not self._pending:
                    raise InputError(
                        f"{self._name}: truncated: the {self._codec.name} data ends before its end mark. "
                        "Get the file again, whole."
                    )
            try:
                data, self._pending = self._decompressor.decompress(self._pending, max_length=len(view)), b""
            except _CORRUPT as error:
                if "too much memory" in str(error):
                    raise InputError(
                        f"{self._name}: its zstd data need a window of more than 128 MiB; compress it without --long"
                    ) from None
                raise InputError(f"{self._name}: corrupt {self._codec.name} data: {error}") from None
            if self._decompressor.eof:
                self._pending = bytes(self._decompressor.unused_data)
            if data:
                self._check_inflation(len(data))
                view[: len(data)] = data
                return len(data)

    def _check_inflation(self, more: int) -> None:
        """Count more bytes of content; raise if they are too many."""
        self._bytes_out += more
        if self._max_inflation is None:
            return
        if self._bytes_out > max(self._harmless_bytes, self._max_inflation * self._bytes_in):
            raise InputError(
                f"{self._name}: its first {self._bytes_in} bytes hold {self._bytes_out} bytes or more, which is beyond "
                f"{self._max_inflation} times as much (max_inflation). If it is no decompression bomb, allow more."
            )

    def _next_stream(self) -> bool:
        """Start the next stream; return whether there is one."""
        more = True
        while more:
            self._skip_padding()
            if len(self._pending) >= _HEADER_BYTES:
                break
            more = bool(read := self._read())
            self._pending += read
        self._skip_padding()
        if self._pending:
            self._decompressor = self._codec.decompressor()
        return bool(self._pending)

    def _skip_padding(self) -> None:
        if self._codec.name in _PADDED:
            self._pending = self._pending.lstrip(b"\0")

    def _read(self) -> bytes:
        """Return the next compressed bytes, as many as the buffer holds."""
        count = fill(self._read_into, self._buffer)
        self._bytes_in += count
        return bytes(self._buffer[:count])
