"""What a calculation of expressions computes, before anything is known of the input.

What a calculation is, as a digest: the same for the same outputs, another for any other code.
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

    from transform.decode.schema import Column
    from transform.engine.plan import ExpressionPlan
    from transform.io.chunks import Chunk, LongLine


FORMAT_VERSION = 1
"""Of the output for the same calculation and input; counted up whenever the engine would write other bytes."""


def digest(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of parts that no other division into parts gives, in hexadecimal."""
    total = hashlib.sha256(f"transform {FORMAT_VERSION}".encode())
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


@dataclass(frozen=True, slots=True)
class ExpressionSpec:
    """What to compute.

    Attributes:
        results: By name.
        filters: Lines stay for which all are true.
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
        """What distinguishes it from other calculations."""
        results = self.origin or tuple(_serialised(expr) for expr in self.results.values())
        filters = [_serialised(expr) for expr in self.filters]
        options = repr((sorted(self.schema.items(), key=str), self.projection.describe(), self.pure))
        return digest([*results, b"where", *filters, options.encode()])

    @property
    def columns(self) -> list[str]:
        """The columns read."""
        return columns_read([*self.results.values(), *self.filters])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how it is done."""
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
        settled: Mapping[str, Column] | None = None,
    ) -> tuple[ExpressionPlan, Iterator[Chunk | LongLine]]:
        """Settle the types, from a sample where they are not declared; return the plan, and all the chunks.

        Raises:
            SchemaError, CalculationError: The calculation does not fit the input.
        """
        from transform.decode.inference import Sample, infer_columns, take_sample
        from transform.engine.plan import ExpressionPlan
        from transform.io.chunks import copy_chunk

        columns = self.columns
        check_all_read(self.schema, columns)
        if settled is None and set(columns) - set(self.schema):
            sample, taken = take_sample(chunks, max_line_bytes)
        else:
            sample, taken = Sample(), [copy_chunk(chunk) for chunk in itertools.islice(chunks, 1)]
        nothing = sample.whole and not sample.lines if settled is None else bool(columns) and not settled
        if nothing:  # nothing to compute on: every line is blank, or will be rejected
            return ExpressionPlan({}, (), {}, max_line_bytes), itertools.chain(taken, chunks)
        types = infer_columns(columns, self.schema, sample, widened) if settled is None else dict(settled)
        plan = ExpressionPlan(
            self.results, self.filters, types, max_line_bytes, projection=self.projection, pure=self.pure
        )
        for chunk in taken[:1]:
            plan.probe(chunk)
        return plan, itertools.chain(taken, chunks)


def _serialised(expr: pl.Expr) -> bytes:
    return expr.meta.serialize(format="json").encode()
