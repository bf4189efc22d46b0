"""The first rows of what a calculation makes, as a frame to look at."""

import polars as pl

from transform.lines import MAX_LINE_BYTES, Chunk, read_chunks
from transform.policy import Policy
from transform.schema import Column
from transform.sources import Source, open_source
from transform.state import State
from transform.summary import Summary
from transform.task import ExpressionSpec
from transform.walk import retry_widened

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
