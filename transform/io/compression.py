"""Compressed streams: gzip, zstd, bz2 and xz, read strictly and written.

The file objects of the standard library read a bz2 or xz file whose second stream is corrupt as a valid, shorter file,
because they take that stream for trailing garbage. Here every byte has to belong to a stream, and every stream has to
end.

What an input is said to be compressed in is often wrong: a download that was decompressed keeps the ending `.gz`, and
tools write `UTF-8` or `aws-chunked` into `Content-Encoding`. So the content decides, and `Labels` compares it with what
the name and the encoding say. Content that contradicts them also has to start as text, so that neither a damaged header
nor a second compression passes for JSON lines.
"""

import bz2
import codecs
import lzma
import re
import sys
from collections.abc import Callable, Iterator
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

DECOMPRESSOR_BYTES = 128 << 20
"""How much memory a decompressor may take.

An xz stream may ask for 4 GiB, and `xz -9` makes ones that ask for 65 MiB; of zstd this is the size of the window. gzip
takes 32 KiB, and bz2 4 MB.
"""
_ZSTD_WINDOW_LOG = DECOMPRESSOR_BYTES.bit_length() - 1

HEAD_BYTES = 64
"""Number of bytes at the start of the content that show whether it is text."""

_UNREADABLE = {
    *("aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "pack200-gzip"),  # registered with IANA for HTTP
    *("brotli", "lz4", "lzip", "lzma", "lzo", "snappy"),  # not registered, but used
}
"""The names that `Content-Encoding` has for formats that are not read. Any other unknown name is no compression."""
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_OBJECT = re.compile(rb'(\xef\xbb\xbf)?[ \t\r\n]*(\[[ \t\r\n]*)?\{[ \t\r\n]*(["}]|$)')


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
        lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}),
        _zstd_compressor,
    ),
    Codec("bz2", (".bz2",), (b"BZh",), bz2.BZ2Decompressor, bz2.BZ2Compressor),
    Codec(
        "xz",
        (".xz",),
        (b"\xfd7zXZ\x00",),
        lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=DECOMPRESSOR_BYTES),
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


@dataclass(frozen=True, slots=True)
class Labels:
    """What an input is said to be compressed in.

    Attributes:
        named: The format that its name promises, None for none.
        encoding: Its `Content-Encoding`, "" for none.

    Example:
        >>> labels = Labels.of("in.jsonl.gz", "UTF-8")
        >>> labels.codec_of(b'{"a":1'), list(labels.notes(None))
        (None, ['named like gzip, but the content is not compressed'])
    """

    named: Codec | None = None
    encoding: str = ""

    @classmethod
    def of(cls, name: str, encoding: str = "") -> "Labels":
        """Return the labels of a file or an object.

        Args:
            name: Its path, key or URI.
            encoding: Its `Content-Encoding`, "" for none.
        """
        return cls(codec_of_name(name), encoding)

    def codec_of(self, start: bytes) -> Codec | None:
        """Return the format that the content is in, None if it is not compressed.

        Args:
            start: The first `MAGIC_BYTES` bytes, fewer only if there are no more.
        """
        found = codec_of_content(start)
        if found is not None or not start:
            return found
        # What is too short to show a format may be the truncated start of one that a label promises.
        promised = (label for label in (self.named, *self._codings) if isinstance(label, Codec))
        return next((codec for codec in promised if any(magic.startswith(start) for magic in codec.magics)), None)

    def agree(self, codec: Codec | None) -> bool:
        """Return whether all labels that promise a format promise this one."""
        return self.named in (None, codec) and self._codings in ([], [codec])

    def check(self, codec: Codec | None, head: bytes) -> None:
        """Raise if content that contradicts a label does not start as JSON lines do.

        Args:
            codec: The format that it is in.
            head: The first `HEAD_BYTES` bytes after decompression, fewer only if there are no more.

        Raises:
            InputError: It does not; the message says which label it contradicts, but not of which input.
        """
        if not head or _OBJECT.match(head):
            return
        if len(self._codings) > 1 or any(isinstance(coding, str) for coding in self._codings):
            raise InputError(f"its Content-Encoding is `{self.encoding}`; one of gzip, zstd, bz2 and xz can be read")
        if not _is_text(head):
            label, promised = next(self._contradicted(codec))
            raise InputError(f"{label}, but the content is neither {promised} nor text")

    def notes(self, codec: Codec | None) -> Iterator[str]:
        """Yield a note for the user on each label that the content contradicts.

        Args:
            codec: The format that it is in.
        """
        for label, _ in self._contradicted(codec):
            yield f"{label}, but the content is {'not compressed' if codec is None else codec.name}"

    def _contradicted(self, codec: Codec | None) -> Iterator[tuple[str, str]]:
        """Yield the labels that promise another format, as text, and what they promise."""
        if self.named not in (None, codec):
            yield f"named like {self.named.name}", self.named.name
        if self._codings not in ([], [codec]):
            names = (coding if isinstance(coding, str) else coding.name for coding in self._codings)
            yield f"its Content-Encoding is `{self.encoding}`", " in ".join(names)

    @property
    def _codings(self) -> list[Codec | str]:
        """The formats that the `Content-Encoding` names: those that are read, and the names of those that are not."""
        found: list[Codec | str] = []
        for token in self.encoding.lower().split(","):
            name = token.strip().removeprefix("x-")
            codec = codec_of_encoding(name)
            if codec is not None or name in _UNREADABLE:
                found.append(codec or name)
        return found


def _is_text(head: bytes) -> bool:
    """Return whether bytes are the start of a text in UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(head) is None


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
        self._decompressor: Any = codec.decompressor()  # there must be at least one stream

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
                self._check_memory(str(error))
                raise InputError(f"{self._name}: corrupt {self._codec.name} data: {error}") from None
            if self._decompressor.eof:
                self._pending = bytes(self._decompressor.unused_data)
            if data:
                self._check_inflation(len(data))
                view[: len(data)] = data
                return len(data)

    def _check_memory(self, error: str) -> None:
        """Raise if a decompressor failed because its stream needs more than `DECOMPRESSOR_BYTES`."""
        if "too much memory" in error:
            raise InputError(
                f"{self._name}: its zstd data need a window of more than 128 MiB; compress it without --long"
            ) from None
        if "Memory usage limit exceeded" in error:
            raise InputError(
                f"{self._name}: its xz data need more than 128 MiB of memory; compress it with xz -9 or less"
            ) from None

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
