"""A frame of the columns read to the JSON texts of the results, row by row alike."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from transform.errors import CalculationError
from transform.expressions import first_line
from transform.integers import overflows, with_negation
from transform.layout import Positions
from transform.members import LineError
from transform.rowwise import check_row_wise
from transform.spell import count_nonfinite, has_floats, json_text
from transform.together import compute_padded, looks_into_lists
from transform.tree import REFUSALS

_PROBE_ROWS = 1000
_MASK = "the filter"
# A row is computed with a copy of itself beside it, of which nobody needs to know.
_TWICE = re.compile(r" for \d+ out of \d+ values: \[(?P<values>.+), (?P=values)\]$")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a calculation makes of a frame.

    Attributes:
        kept: The rows that pass the filters, in order.
        filtered: How many do not.
        texts: Each result's JSON texts, one for each row kept.
        nonfinite: How many NaN and infinite numbers each result had; they are written as null.
        failed: The rows for which polars raised an error.
    """

    kept: Positions
    filtered: int
    texts: pl.DataFrame
    nonfinite: dict[str, int]
    failed: dict[int, LineError]


class Evaluator:
    """Evaluates one calculation on frames of one schema.

    Args:
        results: By name.
        filters: A row is kept where all of them are true.
        schema: The columns of the frames.
        pure: Whether Python functions in them were declared to be pure functions of one row.

    Raises:
        CalculationError: polars refuses an expression, it is not row-wise, or its type has no place in JSON.
    """

    def __init__(
        self,
        results: Mapping[str, pl.Expr],
        filters: Sequence[pl.Expr],
        schema: Mapping[str, pl.DataType],
        *,
        pure: bool = False,
    ) -> None:
        filters = [with_negation(predicate, schema) for predicate in filters]
        exprs = {name: with_negation(expr, schema) for name, expr in results.items()}
        for expr in (*exprs.values(), *filters):
            check_row_wise(expr, schema, pure=pure)
        self._results = [expr.alias(name) for name, expr in exprs.items()]
        self._overflow = _any(check for expr in exprs.values() for check in overflows(expr, schema))
        self._filter_overflow = _any(check for predicate in filters for check in overflows(predicate, schema))
        self._names = list(results)
        # What a Python function raises comes as it is.
        self._failures: tuple[type[BaseException], ...] = (
            (Exception, *REFUSALS) if pure else (*REFUSALS, _BeyondInt128Error)
        )
        self._filter = pl.all_horizontal(*filters).fill_null(value=False).alias(_MASK) if filters else None
        self._into_lists = looks_into_lists([*self._results, *filters])
        empty = pl.DataFrame(schema=schema)
        self.types: dict[str, pl.DataType] = dict(self._compute(empty).schema)
        for predicate in filters:
            found = empty.select(predicate).dtypes[0]
            if found not in (pl.Boolean, pl.Null):
                raise CalculationError(f"the filter `{predicate}` gives {found}, not true or false")
        self._texts = [json_text(name, dtype) for name, dtype in self.types.items()]
        self._with_floats = [name for name, dtype in self.types.items() if has_floats(dtype)]

    def evaluate(self, frame: pl.DataFrame) -> Evaluated:
        """Return the results for all rows; where polars fails on some row, the frame is halved to find it."""
        try:
            return self._evaluate(frame)
        except self._failures as error:
            if frame.height == 1:
                failed = {0: LineError("the calculation failed", _describe_error(error))}
                none = self._compute(frame.clear()).select(self._texts)
                return Evaluated(np.empty(0, np.int64), 0, none, {}, failed)
        middle = frame.height // 2
        return _join(self.evaluate(frame.head(middle)), self.evaluate(frame.slice(middle)), middle)

    def compute(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the columns read and the results of the rows that pass the filters."""
        kept = frame if self._filter is None else frame.filter(self._mask(frame))
        return compute_padded(kept, self._results, into_lists=self._into_lists)

    def probe(self, frame: pl.DataFrame) -> None:
        """Raise if the first rows, evaluated whole and in pieces, give different results.

        Raises:
            CalculationError: They do, whatever the proof said.
        """
        frame = frame.head(_PROBE_ROWS)
        cuts = sorted({0, min(1, frame.height), frame.height // 3, frame.height})
        try:
            whole = self.compute(frame)
            pieces = [self.compute(frame.slice(start, stop - start)) for start, stop in itertools.pairwise(cuts)]
        except self._failures:
            return  # some row fails, which is for its line to say
        for name in whole.columns:
            parts = [piece[name] for piece in pieces]
            if parts and not (len({p.dtype for p in parts}) == 1 and whole[name].equals(pl.concat(parts))):
                raise CalculationError(
                    f"`{name}` is not row-wise: the same lines give other results when they are evaluated apart"
                )

    def _compute(self, frame: pl.DataFrame) -> pl.DataFrame:
        return compute_padded(frame, self._results, into_lists=self._into_lists).select(self._names)

    def _mask(self, frame: pl.DataFrame) -> pl.Series:
        assert self._filter is not None  # noqa: S101 - asked only where there is one
        return compute_padded(frame, [self._filter], into_lists=self._into_lists)[_MASK]

    def _evaluate(self, frame: pl.DataFrame) -> Evaluated:
        kept = np.arange(frame.height)
        _refuse(frame, self._filter_overflow)
        if self._filter is not None:
            mask = self._mask(frame)
            kept, rows = np.flatnonzero(mask.to_numpy()), frame.filter(mask)
        else:
            rows = frame
        _refuse(rows, self._overflow)
        results = compute_padded(rows, self._results, into_lists=self._into_lists) if self._results else rows
        nonfinite = {name: count for name in self._with_floats if (count := count_nonfinite(results[name]))}
        for name in nonfinite:
            if results.schema[name].is_float():
                results = results.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)))
        return Evaluated(kept, frame.height - rows.height, results.select(self._texts), nonfinite, {})


class _BeyondInt128Error(Exception):
    """Integer arithmetic leaves Int128 on some row."""


def _any(checks: Iterable[pl.Expr]) -> pl.Expr | None:
    checks = list(checks)
    return pl.any_horizontal(*checks).any() if checks else None


def _refuse(frame: pl.DataFrame, overflow: pl.Expr | None) -> None:
    if overflow is not None and frame.select(overflow).item():
        raise _BeyondInt128Error("integer arithmetic goes beyond Int128")


def _describe_error(error: BaseException) -> str:
    text = _TWICE.sub(r": \g<values>", first_line(error))
    known = isinstance(error, (*REFUSALS, _BeyondInt128Error))
    return text if known else f"{type(error).__name__}: {text}"


def _join(first: Evaluated, second: Evaluated, offset: int) -> Evaluated:
    nonfinite = {
        name: first.nonfinite.get(name, 0) + second.nonfinite.get(name, 0)
        for name in first.nonfinite | second.nonfinite
    }
    return Evaluated(
        kept=np.concatenate([first.kept, second.kept + offset]),
        filtered=first.filtered + second.filtered,
        texts=pl.concat([first.texts, second.texts]),
        nonfinite=nonfinite,
        failed=first.failed | {row + offset: error for row, error in second.failed.items()},
    )
