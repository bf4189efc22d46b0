"""The first rows of the results of a calculation, as a frame; and `FirstLines` of an input, for the whole room."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from transform.engine.options import Policy
from transform.engine.run import retry_widened
from transform.engine.spec import ExpressionSpec
from transform.engine.summary import State, Summary
from transform.errors import OptionError
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine
from transform.io.sources import Source, open_source
from transform.sizes import count_option


class FirstLines:
    """Yields the chunks of an input up to a number of lines, including blank ones.

    Args:
        chunks: The chunks of a whole input.
        max_lines: The number of lines; None for all.

    Attributes:
        whole: Whether these were all lines of the input; known at the end.
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
                ends = np.flatnonzero(np.frombuffer(chunk.data, np.uint8) == ord("\n"))
                cut = len(chunk.data) if len(ends) < left else int(ends[left - 1]) + 1
                if cut < len(chunk.data):
                    places = None if chunk.places is None else chunk.places.first(left)
                    yield replace(chunk, data=chunk.data[:cut], places=places)
                    return
                yield chunk
                left -= len(ends)
        self.whole = True


_CHUNK_BYTES = 64 << 10  # only a few rows are shown; the sample takes as many chunks as it needs


def preview(spec: ExpressionSpec, source: Source, rows: int, rejected: list[str] | None = None) -> pl.DataFrame:
    """Return the columns read and the results for the first lines that pass the filters.

    Rejected lines are left out, as they are from the output.

    Args:
        spec: The calculation.
        source: The input.
        rows: The maximum number of rows.
        rejected: A list to which messages about rejected lines are added, of those that were read.

    Raises:
        RejectedError: Every line that was read was rejected.
        OptionError: An argument has an invalid value.
    """
    rows = count_option("rows", rows, 0)
    if rejected is not None and not isinstance(rejected, list):
        raise OptionError(f"rejected is a list, not {rejected!r:.80}")
    frame, seen = retry_widened(source, lambda state: _first_rows(spec, source, rows, state))
    report_rejected(seen, rejected, in_lines=spec.rows.in_lines)
    return frame


def report_rejected(seen: Summary, rejected: list[str] | None, *, in_lines: bool) -> None:
    """Add messages about the lines rejected in a preview to a list; raise if all lines were rejected."""
    Policy().check_all(seen, in_lines=in_lines)
    if rejected is not None and seen.rejected:
        rejected += seen.first_rejects
        if seen.rejected > len(seen.first_rejects):
            rejected.append(f"lines: {seen.rejected:,} of the {seen.lines_in:,} that were read, in all")


def _first_rows(spec: ExpressionSpec, source: Source, rows: int, state: State) -> tuple[pl.DataFrame, Summary]:
    seen = Summary()
    with open_source(source) as reader:
        plan, chunks = spec.prepare(
            spec.rows.read(reader.read_into, _CHUNK_BYTES), MAX_LINE_BYTES, state.widened, info=reader.info
        )
        found = [plan.empty_values()]
        for chunk in spec.rows.expanded(chunks):
            if isinstance(chunk, Chunk):
                evaluated = plan.evaluate(chunk)
                seen.count(plan.splice(evaluated))
                found.append(plan.values(evaluated, rows))
            else:
                seen.count(plan.transform(chunk))
            if sum(frame.height for frame in found) >= rows:
                break
    frame = pl.concat(found).head(rows)
    return frame.with_columns(*(_as_values(frame[name]) for name in plan.unchanged)), seen


def _as_values(texts: pl.Series) -> pl.Series:
    """Return JSON texts as values if they have one type, and else as they are."""
    try:
        return pl.Series(texts.name, [json.loads(text) for text in texts], strict=True)
    except (TypeError, ValueError, OverflowError, RecursionError, pl.exceptions.PolarsError):
        return texts
