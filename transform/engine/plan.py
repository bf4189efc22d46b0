"""A calculation of expressions with all its types settled: any chunk to its output."""

import functools
from collections.abc import Sequence

import polars as pl

from transform.decode.decoder import Decoder
from transform.decode.rejects import ChunkResult, reject_long
from transform.decode.schema import Column
from transform.engine.projection import Projection
from transform.engine.splice import plan_edits, splice
from transform.expressions.evaluate import Evaluator
from transform.io.chunks import Chunk, LongLine

_ALL = Projection()


class ExpressionPlan:
    """A calculation with all its types settled: a pure function from chunks to pieces.

    Raises:
        CalculationError: The calculation does not work on columns of these types.
    """

    def __init__(
        self,
        results: dict[str, pl.Expr],
        filters: Sequence[pl.Expr],
        columns: dict[str, Column],
        max_line_bytes: int,
        *,
        projection: Projection = _ALL,
        pure: bool = False,
    ) -> None:
        self._given = (results, filters, columns, max_line_bytes, projection, pure)
        self.columns = columns
        self.max_line_bytes = max_line_bytes
        self._projection = projection
        self.decoder = Decoder(columns, [name for name in results if projection.keeps(name)], max_line_bytes)
        self.evaluator = Evaluator(
            results, filters, {name: column.evaluated for name, column in columns.items()}, pure=pure
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as what it was made from: what it has made of it cannot."""
        results, filters, columns, max_line_bytes, projection, pure = self._given
        return functools.partial(ExpressionPlan, projection=projection, pure=pure), (
            results,
            filters,
            columns,
            max_line_bytes,
        )

    def probe(self, chunk: Chunk | LongLine) -> None:
        """Raise if the calculation is seen to depend on how the input is cut; see `Evaluator.probe`."""
        if isinstance(chunk, Chunk):
            self.evaluator.probe(self.decoder.decode(chunk).frame)

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        """Return by column read its type, and whether it was declared or inferred."""
        return {
            name: (str(column.dtype), "inferred" if column.inferred else "declared")
            for name, column in self.columns.items()
        }

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes: a row's way, start to end."""
        if isinstance(chunk, LongLine):
            reject = reject_long(0, chunk.offset, chunk.head, chunk.length, self.max_line_bytes)
            return ChunkResult((), (reject,), 1, 0, 0, 0, {}, chunk.stop)
        decoded = self.decoder.decode(chunk)
        evaluated = self.evaluator.evaluate(decoded.frame)
        rejects = decoded.rejects
        if evaluated.failed:
            failed = [decoded.line_index.reject(int(decoded.lines[row]), e) for row, e in evaluated.failed.items()]
            rejects = sorted([*rejects, *failed], key=lambda reject: reject.line)
        return ChunkResult(
            output=splice(chunk.data, plan_edits(decoded, evaluated, self._projection)),
            rejects=rejects,
            lines=len(decoded.line_index.stops),
            kept=len(evaluated.kept),
            filtered=evaluated.filtered,
            blank=decoded.blank,
            nonfinite=evaluated.nonfinite,
            stop=chunk.offset + len(chunk.data),
        )
