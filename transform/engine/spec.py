"""The spec of a calculation of expressions: what it computes, before anything is known about the input, and its digest.

`ExpressionSpec.prepare` finds the types of the columns in an input, and returns the plan. Calculations with the same
digest give the same output for the same input.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from transform.decode.near_names import unread_types
from transform.decode.row_format import LINES
from transform.engine.projection import Projection
from transform.io.source_info import UNKNOWN, SourceInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import polars as pl

    from transform.decode.inference import SampleSize
    from transform.decode.row_format import RowFormat
    from transform.decode.schema import Column
    from transform.engine.module_sources import Modules
    from transform.engine.plan import ExpressionPlan
    from transform.engine.summary import Summary
    from transform.expressions.reads import Bound
    from transform.expressions.rules import Rule
    from transform.io.chunks import Chunk, LongLine


FORMAT_VERSION = 2
"""Increased whenever the engine would write other bytes for the same calculation and input."""


VALUE_LIBRARIES = ("msgspec", "numpy", "polars", "pyarrow")
"""The libraries that values in outputs come from: another version of one may write other bytes."""


@functools.cache
def library_version(name: str) -> str:
    """Return the version of an installed library."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:  # it was put on the path without its metadata
        return str(importlib.import_module(name).__version__)


def digest(parts: Iterable[bytes], version_of: Callable[[str], str] = library_version) -> str:
    """Return the SHA-256 of parts, in hexadecimal; it also depends on how the bytes are divided into parts.

    It depends on the versions of the engine's format and of the libraries that values come from, too.

    Args:
        parts: What the calculation is made from.
        version_of: Returns the version of a library.
    """
    versions = " ".join(f"{name}={version_of(name)}" for name in VALUE_LIBRARIES)
    total = hashlib.sha256(f"transform {FORMAT_VERSION} {versions}".encode())
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


@dataclass(frozen=True, slots=True)
class ExpressionSpec:
    """The expressions, filters, types and options of a calculation.

    Attributes:
        results: Expressions by name.
        filters: A line stays where all of them are true.
        rules: A line is rejected where one of them is true.
        schema: Declared types by column.
        projection: Which members stay.
        pure: Whether Python functions in the expressions were declared pure.
        origin: The text that the results were made from, if any.
        sql: The SQL that expressions were made from, by the name of the result or the place of the filter.
        modules: The modules beside its file, which worker processes need; they are part of the origin.
        rows: What the rows of an input are.
    """

    results: dict[str, pl.Expr]
    filters: tuple[pl.Expr, ...] = ()
    schema: dict[str, pl.DataType] = field(default_factory=dict)
    projection: Projection = field(default_factory=Projection)
    pure: bool = False
    origin: tuple[bytes, ...] = ()
    sql: dict[str | int, str] = field(default_factory=dict)
    modules: Modules = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    rows: RowFormat = LINES
    _bound: Bound | None = field(default=None, init=False, repr=False, compare=False)
    _planned: tuple[object, ExpressionPlan] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """A SHA-256 over the text or expressions, the declared types and the options."""
        from transform.expressions.pseudonyms import fingerprint, read_key, uses_key

        results = self.origin or tuple(_serialised(expr) for expr in self.results.values())
        filters = [_serialised(expr) for expr in self.filters]
        options = repr((sorted(self.schema.items(), key=str), self.projection.describe(), self.pure))
        rules = [part for rule in self.rules for part in (_serialised(rule.predicate), rule.reason.encode())]
        parts = [
            *results,
            b"where",
            *filters,
            options.encode(),
            *([b"reject", *rules] if rules else []),
            *self.rows.digest_parts(),
        ]
        if uses_key((*self.results.values(), *self.filters, *self.predicates)):
            parts += [b"key", fingerprint(read_key())]
        return digest(parts)

    @property
    def bound(self) -> Bound:
        """The expressions, bound to the members that they read."""
        from transform.expressions.reads import bind

        if self._bound is None:
            object.__setattr__(self, "_bound", bind(self.results, self.filters, self.predicates))
        assert self._bound is not None  # noqa: S101 - it was just set
        return self._bound

    @property
    def source_fields(self) -> frozenset[str]:
        """What the expressions use of where a row came from, apart from its place in the input."""
        from transform.expressions.origins import OF_ROWS

        return self.bound.fields - OF_ROWS

    @property
    def predicates(self) -> list[pl.Expr]:
        """The conditions of the rules."""
        return [rule.predicate for rule in self.rules]

    @property
    def columns(self) -> list[str]:
        """The members of the lines that are read, or of which a part is."""
        return list(dict.fromkeys(read.path[0] for read in self.bound.reads.values()))

    @property
    def declarable(self) -> list[str]:
        """The names for which types can be declared: of the members read, and of the objects that they are in."""
        reads = self.bound.reads
        inside = {".".join(read.path[:size]): None for read in reads.values() for size in range(1, len(read.path))}
        return list(reads | inside)

    @property
    def named_members(self) -> dict[str, str]:
        """The members that lines are expected to have, by name, and what is to be done to them: read, drop or select.

        A result that is selected is there in any case. Of the members that are read, only those with a declared type
        are named: the type of any other is inferred from its values.
        """
        projection = self.projection
        expected = (name for name in projection.names if name in projection.drop or name not in self.results)
        read = {name: "read" for name in self.bound.reads if name in self.schema}
        return read | {name: "drop" if name in projection.drop else "select" for name in expected}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user on how the run was done."""
        from transform.expressions.row_wise import calls_python

        notes = unread_types(self.schema, self.declarable)
        if any(calls_python(expr) for expr in (*self.results.values(), *self.filters, *self.predicates)):
            notes.append(
                "Python functions ran in the expressions, which were declared pure: they are not checked, and slow"
            )
        return tuple(notes)

    def final_notes(self, summary: Summary) -> list[str]:
        """Return notes for the user on what was found in all lines."""
        return summary.notes_on_absent(self.named_members)

    def prepare(
        self,
        chunks: Iterator[Chunk | LongLine],
        max_line_bytes: int,
        widened: Mapping[str, pl.DataType],
        known_columns: Mapping[str, Column] | None = None,
        sample_size: SampleSize | None = None,
        info: SourceInfo = UNKNOWN,
    ) -> tuple[ExpressionPlan, Iterator[Chunk | LongLine]]:
        """Return the plan, and all the chunks; see `Spec.prepare`.

        Raises:
            SchemaError, CalculationError: The calculation does not fit the input.
        """
        from transform.decode.inference import resume_columns
        from transform.engine.plan import ExpressionPlan

        bound = self.bound
        if known_columns is None:
            columns, first = self._infer(bound, chunks, max_line_bytes, widened, sample_size)
        else:
            columns, first = resume_columns(bound.reads, known_columns), _first(chunks)
        if columns is None:  # there is nothing to compute: every line is blank or will be rejected
            return ExpressionPlan({}, (), {}, max_line_bytes), itertools.chain(first, chunks)
        plan = self._plan(bound, columns, max_line_bytes, info)
        for rows in itertools.islice(self.rows.expanded(first[:1], max_line_bytes), 1):
            plan.probe(rows)
        return plan, itertools.chain(first, chunks)

    def declared_plan(self) -> ExpressionPlan | None:
        """Return the plan that follows from the declared types alone, None if they are not enough.

        Raises:
            SchemaError, CalculationError: The calculation does not fit the declared types.
        """
        from transform.decode.inference import Sample, declared_type, infer_columns
        from transform.io.chunks import MAX_LINE_BYTES

        bound = self.bound
        if any(declared_type(name, read, self.schema) is None for name, read in bound.reads.items()):
            return None
        return self._plan(bound, infer_columns(bound.reads, self.schema, Sample(), {}), MAX_LINE_BYTES)

    def _plan(
        self, bound: Bound, columns: dict[str, Column], max_line_bytes: int, info: SourceInfo = UNKNOWN
    ) -> ExpressionPlan:
        """Return a plan, or the last one if it is the same: the checks take longer than the lines of a small input."""
        from transform.engine.plan import ExpressionPlan
        from transform.expressions.pseudonyms import KEY_VARIABLE, fingerprint

        key = fingerprint(os.fsencode(os.environ.get(KEY_VARIABLE, "").strip()))  # a plan keeps the key that was set
        inputs = columns, max_line_bytes, info if bound.fields else UNKNOWN, key
        if self._planned is not None and self._planned[0] == inputs:
            return self._planned[1]
        plan = ExpressionPlan(
            {name: bound.results.get(name) for name in self.results},
            bound.filters,
            columns,
            max_line_bytes,
            unchanged=bound.unchanged,
            projection=self.projection,
            pure=self.pure,
            sql=self.sql,
            rules=[replace(rule, predicate=expr) for rule, expr in zip(self.rules, bound.rules, strict=True)],
            fields=bound.fields,
            info=info,
        )
        object.__setattr__(self, "_planned", (inputs, plan))
        return plan

    def _infer(
        self,
        bound: Bound,
        chunks: Iterator[Chunk | LongLine],
        max_line_bytes: int,
        widened: Mapping[str, pl.DataType],
        sample_size: SampleSize | None,
    ) -> tuple[dict[str, Column] | None, list[Chunk | LongLine]]:
        """Return the columns with their types, and the chunks that were read to infer them.

        Without lines to infer types from, there are no columns: None.
        """
        from transform.decode.inference import SAMPLE_SIZE, Sample, declared_type, infer_columns, take_sample

        unknown = {name: r for name, r in bound.reads.items() if declared_type(name, r, self.schema) is None}
        if not unknown:
            return infer_columns(bound.reads, self.schema, Sample(), widened), _first(chunks)
        sample, taken = take_sample(chunks, max_line_bytes, sample_size or SAMPLE_SIZE, unknown, self.rows)
        if sample.whole and not sample.lines:
            return None, taken
        return infer_columns(bound.reads, self.schema, sample, widened), taken


def _first(chunks: Iterator[Chunk | LongLine]) -> list[Chunk | LongLine]:
    """Take the first chunk, if there is one; it is valid until the next is taken."""
    return list(itertools.islice(chunks, 1))


def _serialised(expr: pl.Expr) -> bytes:
    return expr.meta.serialize(format="json").encode()
