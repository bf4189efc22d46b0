"""A plan for the elements of arrays in lines, made of the plan for these elements as lines."""

from typing import Protocol

from transform.decode.rejects import ChunkResult
from transform.decode.row_format import RowFormat
from transform.engine.threads import Transforms
from transform.io.chunks import Chunk, LongLine


class _Plan(Transforms, Protocol):
    def describe_schema(self) -> dict[str, tuple[str, str]]: ...


class ElementsPlan:
    """Turns chunks of lines into results: the plan of their elements is applied to these.

    Args:
        plan: The plan of the elements.
        rows: Where they are in the lines.
    """

    def __init__(self, plan: _Plan, rows: RowFormat) -> None:
        self._plan = plan
        self._rows = rows
        self._elements = rows.elements(plan.max_line_bytes)

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make an equal plan: decoders cannot be pickled."""
        return type(self), (self._plan, self._rows)

    @property
    def max_line_bytes(self) -> int:
        """A longer line is rejected."""
        return self._plan.max_line_bytes

    @property
    def in_threads(self) -> bool:
        """Whether threads can transform chunks side by side."""
        return self._plan.in_threads

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        """Return the type of each column read, by name, and whether it was declared or inferred."""
        return self._plan.describe_schema()

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes."""
        assert self._elements is not None  # noqa: S101 - else there would be no such plan
        return ChunkResult.joined([*map(self._plan.transform, self._elements.chunks(chunk))])
