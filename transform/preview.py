"""The first rows of what a calculation makes, as a frame to look at."""

from collections.abc import Iterator

import polars as pl

from transform.lines import MAX_LINE_BYTES, Chunk, read_chunks
from transform.schema import Column
from transform.sources import Source, open_source
from transform.state import State
from transform.task import ExpressionTask
from transform.walk import settled

_CHUNK_BYTES = 64 << 10  # a few rows are wanted; the sample makes its own chunks as long as it needs


def preview(task: ExpressionTask, source: Source, rows: int) -> pl.DataFrame:
    """Return the columns read and the results for the first lines that pass the filters.

    Rejected lines are left out, as they are from the output.
    """
    return settled(source, lambda state: _first_rows(task, source, rows, state))


def _first_rows(task: ExpressionTask, source: Source, rows: int, state: State) -> pl.DataFrame:
    found, height = [], 0
    for frame in _frames(task, source, state):
        found.append(frame)
        height += frame.height
        if height >= rows:
            break
    return pl.concat(found).head(rows)


def _frames(task: ExpressionTask, source: Source, state: State) -> Iterator[pl.DataFrame]:
    with open_source(source) as reader:
        plan, chunks = task.prepare(read_chunks(reader.read_into, _CHUNK_BYTES), MAX_LINE_BYTES, state.widened)
        yield plan.evaluator.compute(pl.DataFrame(schema=_types(plan.columns)))
        for chunk in chunks:
            if isinstance(chunk, Chunk):
                frame = plan.decoder.decode(chunk).frame
                yield plan.evaluator.compute(frame[plan.evaluator.evaluate(frame).kept])


def _types(columns: dict[str, Column]) -> dict[str, pl.DataType]:
    return {name: column.evaluated for name, column in columns.items()}
