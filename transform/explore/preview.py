"""The first rows of what a calculation makes, as a frame to look at.

A look at the lines of an input without an output: for whatever tells of a calculation rather than running it.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import polars as pl

from transform.decode.line_index import NEWLINE
from transform.decode.schema import Column
from transform.engine.run import restarted
from transform.engine.spec import ExpressionSpec
from transform.engine.state import State
from transform.engine.summary import Policy, Summary
from transform.errors import WidenError
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine, read_chunks
from transform.io.sources import Source, open_source

T = TypeVar("T")


def retry_widened(source: Source, attempt: Callable[[State], T]) -> T:
    """Return what an attempt gives that has not to start again with a wider type for a column.

    Args:
        source: What it reads.
        attempt: Is called anew, with the types that turned out to be needed.

    Raises:
        SchemaError: It has to start again, and the source cannot be read again.
    """
    state = State()
    while True:
        try:
            return attempt(state)
        except WidenError as error:
            state = restarted(state, error, source)


class FirstLines:
    """Yields the chunks up to a number of lines, blank ones among them.

    Args:
        chunks: Of a whole input.
        max_lines: How many lines; None for all.

    Attributes:
        whole: Whether that was the whole input; known at the end.
    """

    def __init__(self, chunks: Iterator[Chunk | LongLine], max_lines: int | None) -> None:
        self._chunks = chunks
        self._max_lines = max_lines
        self.whole = False

    def __iter__(self) -> Iterator[Chunk | LongLine]:
        left = self._max_lines
        for chunk in self._chunks:
            if left is None:
                yield chunk
            elif left == 0:
                return
            elif isinstance(chunk, LongLine):
                yield chunk
                left -= 1
            else:
                ends = np.flatnonzero(np.frombuffer(chunk.data, np.uint8) == NEWLINE)
                cut = len(chunk.data) if len(ends) < left else int(ends[left - 1]) + 1
                more = cut < len(chunk.data)
                yield Chunk(chunk.data[:cut], chunk.offset)
                if more:
                    return
                left -= len(ends)
        self.whole = True


_CHUNK_BYTES = 64 << 10  # a few rows are wanted; the sample makes its own chunks as long as it needs


def preview(spec: ExpressionSpec, source: Source, rows: int, rejected: list[str] | None = None) -> pl.DataFrame:
    """Return the columns read and the results for the first lines that pass the filters.

    Rejected lines are left out, as they are from the output.

    Args:
        spec: What to do.
        source: The input.
        rows: How many.
        rejected: Is given what is said of lines that were read on the way, and rejected.

    Raises:
        RejectedError: Every line that was read was rejected.
    """
    frame, seen = retry_widened(source, lambda state: _first_rows(spec, source, rows, state))
    tell_rejected(seen, rejected)
    return frame


def tell_rejected(seen: Summary, rejected: list[str] | None) -> None:
    """Say which lines that were read for a preview were rejected; raise if all were."""
    Policy().check_all(seen)
    if rejected is not None and seen.rejected:
        rejected += seen.first_rejects
        if seen.rejected > len(seen.first_rejects):
            rejected.append(f"lines: {seen.rejected:,} of the {seen.lines_in:,} that were read, in all")


def _first_rows(spec: ExpressionSpec, source: Source, rows: int, state: State) -> tuple[pl.DataFrame, Summary]:
    seen = Summary()
    with open_source(source) as reader:
        plan, chunks = spec.prepare(read_chunks(reader.read_into, _CHUNK_BYTES), MAX_LINE_BYTES, state.widened)
        found = [plan.evaluator.compute(pl.DataFrame(schema=_types(plan.columns)))]
        for chunk in chunks:
            seen.count(plan.transform(chunk))
            if isinstance(chunk, Chunk):
                frame = plan.decoder.decode(chunk).frame
                found.append(plan.evaluator.compute(frame[plan.evaluator.evaluate(frame).kept]))
            if sum(frame.height for frame in found) >= rows:
                break
    return pl.concat(found).head(rows), seen


def _types(columns: dict[str, Column]) -> dict[str, pl.DataType]:
    return {name: column.evaluated for name, column in columns.items()}
