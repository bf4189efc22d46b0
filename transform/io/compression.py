"""Compressed streams: gzip, zstd, bz2 and xz, in and out, strictly.

The file objects of the standard library read a bz2 or xz file whose second stream is corrupt as a good, shorter file
(they take it for trailing garbage). Here every byte has to belong to a stream, and every stream has to end.
"""

import bz2
import lzma
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from isal import igzip_lib, isal_zlib

from transform.errors import InputError
from transform.io.chunks import ReadInto

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_READ_BYTES = 256 << 10
_HEADER_BYTES = 64 << 10  # of a stream's start, so much is there at once: isal loses its place in a header in pieces
_HARMLESS_BYTES = 256 << 20  # are inflated whatever they come from: a short file of a few long lines is no bomb
_PADDED = ("gzip", "xz")  # formats that allow zeros after and between their streams
_GZIP_WINDOW_BITS = 31  # of zlib: a deflate window of 15 bits, in a gzip wrapper
_CORRUPT: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, lzma.LZMAError, zstd.ZstdError, igzip_lib.error)  # type: ignore[assignment] # isal's is typed as an instance


class Compressor(Protocol):
    """What all compressor objects have in common."""

    def compress(self, data: Any, /) -> bytes:
        """Take content; return what is ready of the stream."""

    def flush(self) -> bytes:
        """Return the rest of the stream."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression format.

    Attributes:
        name: What its users call it.
        suffixes: How files in it are named.
        magics: How their content starts.
        decompressor: Makes an object for one stream, of the interface that `bz2.BZ2Decompressor` has.
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
"""How much of a content has to be seen to know its format."""


def codec_of_name(name: str) -> Codec | None:
    """Return the format that a file's name promises, None for plain text.

    Args:
        name: A path, a key or a URI.

    Example:
        >>> codec_of_name("in.jsonl.zst").name
        'zstd'
    """
    return next((codec for codec in CODECS if name.lower().endswith(codec.suffixes)), None)


def codec_of_encoding(token: str) -> Codec | None:
    """Return the format that a token of a `Content-Encoding` names, None for one that is not known.

    Args:
        token: One of those between the commas; in whatever case.

    Example:
        >>> codec_of_encoding("x-gzip").name
        'gzip'
    """
    token = token.strip().lower().removeprefix("x-").replace("bzip2", "bz2")
    return next((codec for codec in CODECS if token in {codec.name, *(suffix[1:] for suffix in codec.suffixes)}), None)


def codec_of_content(start: bytes) -> Codec | None:
    """Return the format that the first `MAGIC_BYTES` of a content show, None for plain text."""
    return next((codec for codec in CODECS if start.startswith(codec.magics)), None)


class Inflater:
    """Reads what a compressed input holds, all its members, streams or frames to their end.

    Args:
        read_into: Reads the compressed bytes.
        codec: Their format.
        name: What to call the input in errors.
        max_inflation: How many times as large as what was read the content may be; None for any number of times.
    """

    def __init__(self, read_into: ReadInto, codec: Codec, name: str, max_inflation: int | None = None) -> None:
        self._read_into = read_into
        self._codec = codec
        self._name = name
        self._max_inflation = max_inflation
        self._taken = self._given = 0
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._pending = b""
        self._decompressor: Any = codec.decompressor()  # at least one stream has to be there

    def read_into(self, view: memoryview) -> int:
        """Fill a part of the view; return how many bytes, 0 at the end.

        Raises:
            InputError: The content is corrupt, ends too early, or is larger than it may be.
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
        self._given += more
        if self._max_inflation is None or self._given <= max(_HARMLESS_BYTES, self._max_inflation * self._taken):
            return
        raise InputError(
            f"{self._name}: its first {self._taken} bytes hold {self._given} bytes or more, which is beyond "
            f"{self._max_inflation} times as much (max_inflation). If it is no decompression bomb, allow more."
        )

    def _next_stream(self) -> bool:
        """Begin the next stream, if there is one."""
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
        """Read on, as much as the buffer holds."""
        filled = 0
        while filled < len(self._buffer) and (count := self._read_into(self._buffer[filled:])):
            filled += count
        self._taken += filled
        return bytes(self._buffer[:filled])
