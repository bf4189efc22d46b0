"""What an input is said to be compressed in, by its name and its `Content-Encoding`; its content decides.

Labels are often wrong: a download that was decompressed keeps the ending `.gz`, and tools write `UTF-8` or
`aws-chunked` into `Content-Encoding`. The first bytes show the format. Where they contradict a label, the content also
has to start as text, so that neither a damaged header nor a second compression passes for JSON lines.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from transform.errors import InputError
from transform.io.compression import Codec, codec_of_content, codec_of_encoding, codec_of_name

HEAD_BYTES = 64
"""Number of bytes at the start of the content that show whether it is text."""

_UNREADABLE = {
    *("aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "pack200-gzip"),  # registered with IANA for HTTP
    *("brotli", "lz4", "lzip", "lzma", "lzo", "snappy"),  # not registered, but used
}
"""The names that `Content-Encoding` has for formats that are not read. Any other unknown name is no compression."""
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_OBJECT = re.compile(rb'(\xef\xbb\xbf)?[ \t\r\n]*(\[[ \t\r\n]*)?\{[ \t\r\n]*(["}]|$)')


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
