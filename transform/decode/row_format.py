"""The rows of an input: lines, or the objects of a sequence of JSON texts; or the elements of an array in each of them.

This file imports neither numpy nor pyarrow, so that a calculation can be defined without waiting for them.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from transform.errors import OptionError
from transform.io.chunks import CHUNK_BYTES, MAX_LINE_BYTES, Chunk, LongLine, ReadInto, read_chunks
from transform.terminal_text import has_lone_surrogate

if TYPE_CHECKING:
    from transform.decode.elements import Elements

FORMATS = ("lines", "json")
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What the rows of an input are.

    Attributes:
        format: `lines` if each line is a row; `json` if each object of a sequence of JSON texts is one, and each
            element of an array in it.
        each: If the rows are the elements of an array in each of these: the path of the array.
        beside: The paths of other members that each element gets.
    """

    format: str = "lines"
    each: Path | None = None
    beside: tuple[Path, ...] = ()

    def with_format(self, name: str) -> Self:
        """Return the same with another format.

        Raises:
            OptionError: There is no such format.
        """
        if name not in FORMATS:
            raise OptionError(f"format is `lines` or `json`, not {name!r:.80}")
        return replace(self, format=name)

    def with_each(self, path: str, beside: str = "") -> Self:
        """Return the same with the elements of an array as rows.

        Args:
            path: The path of the array, as `parse_paths` takes it.
            beside: The paths of members that each element gets.

        Raises:
            OptionError: A path is invalid, or two of the members have one name.
        """
        nothing = isinstance(beside, str) and not beside.strip()
        paths, members = parse_paths(path), [] if nothing else parse_paths(beside)
        if len(paths) != 1:
            raise OptionError(f"each is the path of one array, such as Records, not {path!r:.80}")
        names = [member[-1] for member in members]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise OptionError(f"two members would be `{twice}` in each row: {beside!r:.80}")
        return replace(self, each=paths[0], beside=tuple(members))

    @property
    def in_lines(self) -> bool:
        """Whether a row ends with its line, so that rows can be found from any offset on."""
        return self.format == "lines"

    def describe(self) -> list[tuple[str, str]]:
        """Return the options that differ from their defaults, by name, as the command takes them."""
        options = [("format", self.format if not self.in_lines else "")]
        options += [("each", spelled(self.each) if self.each else ""), ("with", ", ".join(map(spelled, self.beside)))]
        return [(name, text) for name, text in options if text]

    def digest_parts(self) -> list[bytes]:
        """Return what the digest of a calculation has of it: nothing if rows are lines."""
        return [] if self == LINES else [f"rows {self.format} {self.each} {self.beside}".encode()]

    def elements(self, max_line_bytes: int = MAX_LINE_BYTES, max_bytes: int = CHUNK_BYTES) -> "Elements | None":
        """Return what makes chunks of elements of chunks of lines; None if lines are the rows.

        Args:
            max_line_bytes: A longer line is rejected.
            max_bytes: The most bytes of a chunk of elements, unless a single one is longer.
        """
        if self.each is None:
            return None
        from transform.decode.elements import Elements  # noqa: PLC0415 - it imports numpy

        return Elements(self.each, self.beside, max_line_bytes, spelled(self.each), max_bytes)

    def expanded(
        self, chunks: Iterable[Chunk | LongLine], max_line_bytes: int = MAX_LINE_BYTES
    ) -> Iterator[Chunk | LongLine]:
        """Yield the rows of chunks that were read."""
        elements = self.elements(max_line_bytes)
        for chunk in chunks:
            if elements is None:
                yield chunk
            else:
                yield from elements.chunks(chunk)

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
_NAME = re.compile(r'\s*+(?:"(?P<quoted>(?:[^"]|"")*+)"|(?P<plain>[^".,]*?))\s*+(?P<end>[.,]|\Z)')


def spelled(path: Path) -> str:
    """Return a path as `parse_paths` takes it.

    Example:
        >>> spelled(("detail", "a.b"))
        'detail."a.b"'
    """
    return ".".join(
        '"{}"'.format(name.replace('"', '""')) if not name or name.strip() != name or set(name) & set('.,"') else name
        for name in path
    )


def parse_paths(text: str) -> list[Path]:
    """Return the paths of members in a text, which are separated by commas, and the names in each by points.

    A name that contains a comma, a point or a double quote, or that starts or ends with white space, is given in double
    quotes, as in SQL.

    Raises:
        OptionError: The text is nothing of the kind.

    Example:
        >>> parse_paths('account, detail."a.b"')
        [('account',), ('detail', 'a.b')]
    """
    paths: list[Path] = []
    names: tuple[str, ...] = ()
    position = 0
    while True:
        is_text = isinstance(text, str) and not has_lone_surrogate(text)
        name = _NAME.match(text, position) if is_text else None
        if name is None or not (name["quoted"] is not None or name["plain"]):
            raise OptionError(f"expected paths of members such as Records or detail.items, not {text!r:.80}")
        names += (name["plain"] if name["quoted"] is None else name["quoted"].replace('""', '"'),)
        position = name.end()
        if name["end"] != ".":
            paths.append(names)
            names = ()
        if not name["end"]:
            return paths
