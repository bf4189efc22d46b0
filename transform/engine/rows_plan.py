"""The plan of a run: the plan of its rows, applied to the rows in chunks of lines."""

from collections.abc import Iterator
from typing import Protocol

from transform.decode.rejects import ChunkResult
from transform.decode.row_format import RowFormat
from transform.io.chunks import CHUNK_BYTES, Chunk, LongLine


class TransformsRows(Protocol):
    """Turns any chunk of rows into its output: a pure function, which can be sent to other processes."""

    @property
    def max_line_bytes(self) -> int:
        """A longer line is rejected."""

    @property
    def in_threads(self) -> bool:
        """Whether threads can transform chunks side by side, as no Python code runs for each line."""

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes."""


class TransformsChunks(Protocol):
    """Turns any chunk of an input into its results, as `RowsPlan` does."""

    @property
    def max_line_bytes(self) -> int:
        """A longer line is rejected."""

    @property
    def in_threads(self) -> bool:
        """Whether threads can transform chunks side by side, as no Python code runs for each line."""

    @property
    def in_parts(self) -> bool:
        """Whether a chunk may have several results."""

    def results(self, chunk: Chunk | LongLine) -> Iterator[ChunkResult]:
        """Yield what a chunk becomes, in order."""


class RowsPlan:
    """Turns chunks of lines into results.

    A chunk has one result if its lines are the rows. If their elements are, it has one for each few MiB of these,
    because a line may have millions of elements, or a large member that each of them gets. So memory is bounded by the
    longest line, and not by all that becomes of it.

    Args:
        plan: The plan of the rows.
        rows: Where these are in the lines.
        part_bytes: The most bytes of elements that are transformed together, unless a single one is longer.
    """

    def __init__(self, plan: TransformsRows, rows: RowFormat, part_bytes: int = CHUNK_BYTES) -> None:
        self._arguments = plan, rows, part_bytes
        self._plan = plan
        self._elements = rows.elements(plan.max_line_bytes, part_bytes)

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make an equal plan: decoders cannot be pickled."""
        return type(self), self._arguments

    @property
    def max_line_bytes(self) -> int:
        """A longer line is rejected."""
        return self._plan.max_line_bytes

    @property
    def in_threads(self) -> bool:
        """Whether threads can transform chunks side by side."""
        return self._plan.in_threads

    @property
    def in_parts(self) -> bool:
        """Whether a chunk may have several results."""
        return self._elements is not None

    def results(self, chunk: Chunk | LongLine) -> Iterator[ChunkResult]:
        """Yield what a chunk becomes, in order: one result, or several of which the last one says that it is that."""
        return map(self._plan.transform, (chunk,) if self._elements is None else self._elements.chunks(chunk))
