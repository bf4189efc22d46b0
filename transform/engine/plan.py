"""The plan of a calculation of expressions whose types are known: it turns any chunk into its output.

The stages of a chunk are methods, in order: `decode`, `evaluate` and `splice`; `transform` is all of them.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from transform.decode.decoder import Decoded, Decoder
from transform.decode.rejects import ChunkResult, Rejects
from transform.decode.schema import Column, Path
from transform.engine.named_members import NamesFound, find_columns, find_names
from transform.engine.projection import Projection
from transform.engine.splice import splice
from transform.expressions.evaluate import Evaluated, Evaluator
from transform.expressions.origins import Origins
from transform.expressions.row_wise import calls_python
from transform.expressions.rules import Rule
from transform.io.chunks import Chunk, LongLine
from transform.io.source_info import UNKNOWN, SourceInfo
from transform.native.binding import Positions

_ALL = Projection()


@dataclass(frozen=True, slots=True)
class EvaluatedChunk:
    """A chunk with its rows decoded and evaluated; valid as long as the chunk is.

    Attributes:
        chunk: The lines.
        decoded: The rows that they hold, and the lines that have none.
        evaluated: The results of these rows.
        reasons: The reasons of the rules.
    """

    chunk: Chunk
    decoded: Decoded
    evaluated: Evaluated
    reasons: Sequence[str] = ()

    @property
    def kept_lines(self) -> Positions:
        """The index in the chunk of each line that is in the output, in order."""
        return self.decoded.lines[self.evaluated.kept]

    @property
    def rejects(self) -> Rejects:
        """The rejected lines, in order: without a row, rejected by a rule, and on which the calculation failed."""
        decoded, evaluated = self.decoded, self.evaluated
        rejects = decoded.rejects
        if len(evaluated.refused):
            lines = decoded.lines[evaluated.refused]
            rejects = rejects.merged(decoded.rejects_for(lines, evaluated.refused_by, self.reasons))
        if evaluated.failed:
            more = (decoded.reject(int(decoded.lines[row]), error) for row, error in evaluated.failed.items())
            rejects = rejects.merged(Rejects.of(more))
        return rejects


class ExpressionPlan:
    """A calculation whose types are known: a pure function from chunks to their results.

    A plan can be pickled, so that any process can transform any chunk.

    Args:
        results: The results, by name in order: the expression of each; None for one that is a member as it is.
        filters: A line stays where all of them are true.
        columns: The columns read, with their types.
        max_line_bytes: A longer line is rejected.
        unchanged: The paths of the members that are results as they are, by the name of the result.
        projection: Which members stay.
        pure: Whether Python functions in the expressions were declared pure.
        sql: The SQL that expressions were made from, by the name of the result or the place of the filter.
        rules: A line is rejected where one of them is true.
        fields: What the expressions use of where a row came from.
        info: What is known of the input.

    Raises:
        CalculationError: The calculation does not work on columns of these types.
    """

    def __init__(
        self,
        results: Mapping[str, pl.Expr | None],
        filters: Sequence[pl.Expr],
        columns: dict[str, Column],
        max_line_bytes: int,
        *,
        unchanged: Mapping[str, Path] = {},
        projection: Projection = _ALL,
        pure: bool = False,
        sql: Mapping[str | int, str] = {},
        rules: Sequence[Rule] = (),
        fields: Iterable[str] = (),
        info: SourceInfo = UNKNOWN,
    ) -> None:
        # For pickling: the decoder and the evaluator cannot be pickled, and are made again.
        self._arguments = results, filters, columns, max_line_bytes
        self._constructor = functools.partial(
            ExpressionPlan,
            unchanged=unchanged,
            projection=projection,
            pure=pure,
            sql=sql,
            rules=rules,
            fields=fields,
            info=info,
        )
        self.columns = columns
        self.max_line_bytes = max_line_bytes
        self.unchanged = dict(unchanged)
        self._projection = projection
        self._names = list(results)
        self._targets = frozenset(name for name in results if projection.keeps(name))
        self._decoder = Decoder(
            columns,
            self._targets,
            max_line_bytes,
            unchanged,
            {name: projection.keeps(name) for name in projection.names},
            others_stay=projection.select is None,
        )
        self._declared = [n for n, column in columns.items() if not column.inferred and n not in projection.names]
        self._origins = Origins(fields, info)
        self._schema = {name: column.evaluated for name, column in columns.items()} | self._origins.schema
        computed = {name: expr for name, expr in results.items() if expr is not None}
        predicates = [rule.predicate for rule in rules]
        self._reasons = [rule.reason for rule in rules]
        self._calls_python = any(map(calls_python, (*computed.values(), *filters, *predicates)))
        self._evaluator = Evaluator(computed, filters, self._schema, pure=pure, sql=sql, rules=rules)

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make an equal plan."""
        return self._constructor, self._arguments

    @property
    def result_types(self) -> dict[str, pl.DataType | None]:
        """The type of each result, by name; None for one that is a member as it is."""
        return {name: self._evaluator.types.get(name) for name in self._names}

    @property
    def in_threads(self) -> bool:
        """Whether threads can transform chunks side by side, as no Python code runs for each value."""
        return not self._calls_python

    @property
    def closed(self) -> list[str]:
        """The columns whose objects may have no other members than their type, as those would be lost."""
        return [name for name, column in self.columns.items() if column.closed]

    def describe_schema(self) -> dict[str, tuple[str, str]]:
        """Return the type of each column read, by name, and whether it was declared or inferred."""
        return {
            name: (str(column.dtype), "inferred" if column.inferred else "declared")
            for name, column in self.columns.items()
            if column.typed
        }

    def probe(self, chunk: Chunk | LongLine) -> None:
        """Raise if the results depend on how the input is cut into chunks; see `Evaluator.probe`."""
        if isinstance(chunk, Chunk):
            self._evaluator.probe(self.decode(chunk).frame)

    def transform(self, chunk: Chunk | LongLine) -> ChunkResult:
        """Return what a chunk becomes: all stages that a row passes through."""
        if isinstance(chunk, LongLine):
            return ChunkResult.of_long_line(chunk, self.max_line_bytes)
        return self.splice(self.evaluate(chunk))

    def decode(self, chunk: Chunk) -> Decoded:
        """Return the rows of a chunk, with the columns read, and the lines that have no row.

        Raises:
            WidenError: An inferred type turns out too narrow.
        """
        decoded = self._decoder.decode(chunk)
        if not self._origins.schema:
            return decoded
        rows, elements = decoded.lines, None if chunk.places is None else chunk.places.elements
        numbers = None if elements is None else elements[rows]
        return replace(decoded, frame=self._origins.add_to(decoded.frame, decoded.offsets[rows], numbers))

    def evaluate(self, chunk: Chunk, decoded: Decoded | None = None) -> EvaluatedChunk:
        """Return a chunk decoded and evaluated.

        Args:
            chunk: The lines.
            decoded: What `decode` returned for them; by default they are decoded here.

        Raises:
            WidenError: An inferred type turns out too narrow.
        """
        if decoded is None:
            decoded = self.decode(chunk)
        return EvaluatedChunk(chunk, decoded, self._evaluator.evaluate(decoded.frame), self._reasons)

    def splice(self, found: EvaluatedChunk) -> ChunkResult:
        """Return what an evaluated chunk becomes: its lines with the results in them."""
        chunk, decoded, evaluated = found.chunk, found.decoded, found.evaluated
        names = find_names(decoded, self._projection.names, found.kept_lines) if self._projection else NamesFound()
        columns = find_columns(decoded, self._declared)
        result = ChunkResult(
            output=(splice(decoded, evaluated, self._names, self.unchanged, self._targets),),
            rejects=found.rejects,
            lines=len(decoded.found.stops),
            kept=len(evaluated.kept),
            filtered=evaluated.filtered,
            blank=decoded.blank,
            nonfinite=evaluated.nonfinite,
            inexact=decoded.inexact,
            stop=chunk.stop,
            after=chunk.after,
            seen=names.seen | columns.seen,
            near={**names.near, **columns.near},
        )
        return result.placed(chunk.places)

    def count_nulls(self, found: EvaluatedChunk) -> dict[str, int]:
        """Return how many values of each result are null, in the lines that are kept."""
        counts = {
            name: found.decoded.texts(path, found.kept_lines).count(b"null") for name, path in self.unchanged.items()
        }
        for name, values in found.evaluated.results.to_dict().items():
            counts[name] = int((values == "null").sum()) if values.dtype == pl.String else values.null_count()
        return counts

    def values(self, found: EvaluatedChunk, max_rows: int) -> pl.DataFrame:
        """Return the columns read and the results, as values, for the first rows that are kept.

        An evaluated chunk has the results as JSON texts only, which is all that a run needs; so the values of the few
        rows that are asked for are computed here. Results that are members as they are stay JSON texts.
        """
        rows = found.evaluated.kept[:max_rows]
        lines = found.decoded.lines[rows]
        texts = {
            name: [text.decode() for text in found.decoded.texts(path, lines)] for name, path in self.unchanged.items()
        }
        unchanged = pl.DataFrame(texts, dict.fromkeys(texts, pl.String))
        return self._with_unchanged(self._evaluator.compute(found.decoded.frame[rows]), unchanged)

    def empty_values(self) -> pl.DataFrame:
        """Return the columns read and the results, with their types, for no row."""
        unchanged = pl.DataFrame(schema=dict.fromkeys(self.unchanged, pl.String))
        return self._with_unchanged(self._evaluator.compute(pl.DataFrame(schema=self._schema)), unchanged)

    def _with_unchanged(self, frame: pl.DataFrame, unchanged: pl.DataFrame) -> pl.DataFrame:
        frame = frame.with_columns(unchanged.get_columns()) if frame.width else unchanged
        typed = [name for name, column in self.columns.items() if column.typed and name not in self._names]
        return frame.select(*typed, *self._names)
