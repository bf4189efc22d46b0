"""The spec of a calculation of expressions: what it computes, before anything is known about the input, and its digest.

`ExpressionSpec.prepare` finds the types of the columns in an input, and returns the plan. Calculations with the same
digest give the same output for the same input.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transform.decode.schema import check_all_read
from transform.engine.projection import Projection
from transform.expressions.parse import columns_read
from transform.expressions.row_wise import calls_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import polars as pl

    from transform.decode.inference import SampleSize
    from transform.decode.schema import Column
    from transform.engine.plan import ExpressionPlan
    from transform.io.chunks import Chunk, LongLine


FORMAT_VERSION = 1
"""Increased whenever the engine would write other bytes for the same calculation and input."""


def digest(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of parts, in hexadecimal; it also depends on how the bytes are divided into parts."""
    total = hashlib.sha256(f"transform {FORMAT_VERSION}".encode())
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


@dataclass(frozen=True, slots=True)
class ExpressionSpec:
    """The expressions, filters, types and options of a calculation.

    Attributes:
        results: Expressions by name.
        filters: A line stays where all of them are true.
        schema: Declared types by column.
        projection: Which members stay.
        pure: Whether Python functions in the expressions were declared pure.
        origin: The text that the results were made from, if any.
    """

    results: dict[str, pl.Expr]
    filters: tuple[pl.Expr, ...] = ()
    schema: dict[str, pl.DataType] = field(default_factory=dict)
    projection: Projection = field(default_factory=Projection)
    pure: bool = False
    origin: tuple[bytes, ...] = ()

    @property
    def digest(self) -> str:
        """A SHA-256 over the text or expressions, the declared types and the options."""
        results = self.origin or tuple(_serialised(expr) for expr in self.results.values())
        filters = [_serialised(expr) for expr in self.filters]
        options = repr((sorted(self.schema.items(), key=str), self.projection.describe(), self.pure))
        return digest([*results, b"where", *filters, options.encode()])

    @property
    def columns(self) -> list[str]:
        """The columns read."""
        return columns_read([*self.results.values(), *self.filters])

    @property
    def named_members(self) -> dict[str, str]:
        """The members that lines are expected to have, by name, and what is to be done to them: drop or select.

        A result that is selected is there in any case.
        """
        projection = self.projection
        expected = (name for name in projection.names if name in projection.drop or name not in self.results)
        return {name: "drop" if name in projection.drop else "select" for name in expected}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user on how the run was done."""
        if any(calls_python(expr) for expr in (*self.results.values(), *self.filters)):
            return (
                "Python functions ran in the expressions, which were declared pure: they are not checked, and slow",
            )
        return ()

    def prepare(
        self,
        chunks: Iterator[Chunk | LongLine],
        max_line_bytes: int,
        widened: Mapping[str, pl.DataType],
        known_columns: Mapping[str, Column] | None = None,
        sample_size: SampleSize | None = None,
    ) -> tuple[ExpressionPlan, Iterator[Chunk | LongLine]]:
        """Return the plan, and all the chunks; see `Spec.prepare`.

        Raises:
            SchemaError, CalculationError: The calculation does not fit the input.
        """
        from transform.engine.plan import ExpressionPlan

        check_all_read(self.schema, self.columns)
        if known_columns is None:
            columns, first = self._infer(chunks, max_line_bytes, widened, sample_size)
        else:
            columns, first = dict(known_columns), _first(chunks)
        if self.columns and not columns:  # there is nothing to compute: every line is blank or will be rejected
            return ExpressionPlan({}, (), {}, max_line_bytes), itertools.chain(first, chunks)
        plan = ExpressionPlan(
            self.results, self.filters, columns, max_line_bytes, projection=self.projection, pure=self.pure
        )
        for chunk in first[:1]:
            plan.probe(chunk)
        return plan, itertools.chain(first, chunks)

    def _infer(
        self,
        chunks: Iterator[Chunk | LongLine],
        max_line_bytes: int,
        widened: Mapping[str, pl.DataType],
        sample_size: SampleSize | None,
    ) -> tuple[dict[str, Column], list[Chunk | LongLine]]:
        """Return the columns with their types, and the chunks that were read to infer them.

        Without lines to infer types from, there are no columns.
        """
        from transform.decode.inference import SAMPLE_SIZE, Sample, infer_columns, take_sample

        if set(self.columns) <= set(self.schema):
            return infer_columns(self.columns, self.schema, Sample(), widened), _first(chunks)
        sample, taken = take_sample(chunks, max_line_bytes, sample_size or SAMPLE_SIZE)
        if sample.whole and not sample.lines:
            return {}, taken
        return infer_columns(self.columns, self.schema, sample, widened), taken


def _first(chunks: Iterator[Chunk | LongLine]) -> list[Chunk | LongLine]:
    """Take the first chunk, if there is one; it is valid until the next is taken."""
    return list(itertools.islice(chunks, 1))


def _serialised(expr: pl.Expr) -> bytes:
    return expr.meta.serialize(format="json").encode()
