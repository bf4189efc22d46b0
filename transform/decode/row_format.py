"""The rows of an input: lines, or the objects of a sequence of JSON texts.

This file imports neither numpy nor pyarrow, so that a calculation can be defined without waiting for them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from transform.errors import OptionError
from transform.io.chunks import CHUNK_BYTES, MAX_LINE_BYTES, Chunk, LongLine, ReadInto, read_chunks

FORMATS = ("lines", "json")


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What the rows of an input are.

    Attributes:
        format: `lines` if each line is a row; `json` if each object of a sequence of JSON texts is one, and each
            element of an array in it.
    """

    format: str = "lines"

    def with_format(self, name: str) -> Self:
        """Return the same with another format.

        Raises:
            OptionError: There is no such format.
        """
        if name not in FORMATS:
            raise OptionError(f"format is `lines` or `json`, not {name!r:.80}")
        return replace(self, format=name)

    @property
    def in_lines(self) -> bool:
        """Whether a row ends with its line, so that rows can be found from any offset on."""
        return self.format == "lines"

    def digest_parts(self) -> list[bytes]:
        """Return what the digest of a calculation has of it: nothing if rows are lines."""
        return [] if self == LINES else [f"rows {self.format}".encode()]

    def read(
        self,
        read_into: ReadInto,
        chunk_bytes: int = CHUNK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
        start: int = 0,
        after: int = 0,
        *,
        only_blank: bool = False,
        with_checksums: bool = False,
    ) -> Iterator[Chunk | LongLine]:
        """Yield an input as chunks of lines, in order, without the BOM at its very start.

        Args:
            read_into: Reads the input.
            chunk_bytes: Number of bytes to read at a time.
            max_line_bytes: A longer row is rejected.
            start: Offset of the first byte that `read_into` returns.
            after: How to go on there, as in `Places`.
            only_blank: Whether the input holds only white space before `start`.
            with_checksums: Whether checksums are needed of what chunks are found in.
        """
        if self.in_lines:
            return read_chunks(read_into, chunk_bytes, max_line_bytes, start, only_blank=only_blank)
        from transform.decode.json_rows import JsonRowReader  # noqa: PLC0415 - it imports numpy

        return iter(JsonRowReader(read_into, chunk_bytes, max_line_bytes, start, after, with_checksums=with_checksums))


LINES = RowFormat()
