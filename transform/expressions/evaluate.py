"""Evaluates a calculation on a frame of the columns read, and formats the results as JSON. Start with `Evaluator`.

Each row has to get the same results in any frame. polars takes a column of one value for a constant, and some
functions treat constants in another way: `s.str.replace_all("a", t)` raises an error where the constant `t` is null,
and gives null among other rows. The same applies to the elements of lists if there is only one in a frame, and some
functions fail on a frame without rows. So `compute_padded` computes a single row together with a copy of itself.
(Arithmetic does not need that: `49.0 // 49` is 1 in any frame, see `arithmetic`.)
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import polars as pl

from transform.decode.line_errors import LineError
from transform.decode.schema import has_floats
from transform.errors import CalculationError
from transform.expressions.arithmetic import sql_literals, with_exact_arithmetic, without_negation
from transform.expressions.hashes import Hash, extract, hashed
from transform.expressions.mixtures import check_types
from transform.expressions.parse import first_line
from transform.expressions.pseudonyms import HMAC_SHA256, as_text, read_key, uses_key
from transform.expressions.reads import columns_read
from transform.expressions.rewrite import Check, Overflow
from transform.expressions.row_wise import check_row_wise
from transform.expressions.rules import Rule
from transform.expressions.tree import REFUSALS, nodes, show
from transform.native.binding import Positions


def looks_into_lists(exprs: Sequence[pl.Expr]) -> bool:
    """Return whether any of the expressions evaluates others on the elements of lists."""
    return any(node.kind == "Eval" for expr in exprs for node in nodes(expr))


def compute_padded(frame: pl.DataFrame, exprs: Sequence[pl.Expr], *, into_lists: bool) -> pl.DataFrame:
    """Return the frame with the columns of the expressions, computed as on a frame of many rows.

    Args:
        frame: The rows.
        exprs: Expressions with names.
        into_lists: Whether any of them looks into lists.
    """
    if frame.height > 1 and not into_lists:
        return frame.with_columns(exprs)
    if not frame.height:
        try:
            return frame.with_columns(exprs)
        except REFUSALS:
            nulls = pl.DataFrame({name: [None] * 2 for name in frame.columns}, frame.schema)
            return nulls.with_columns(exprs).clear()
    if not frame.width:
        return pl.DataFrame(height=2 * frame.height).with_columns(exprs).head(frame.height)
    twice = pl.DataFrame({column.name: pl.concat([column, column], rechunk=True) for column in frame})
    return twice.with_columns(exprs).head(frame.height)


def member_prefix(name: str) -> str:
    """Return the start of a member as JSON: its name and the colon."""
    return msgspec.json.encode(name).decode() + ":"


def written(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the expression that makes of a result what is written: a number that the kernel spells, or JSON text."""
    column = pl.col(name)
    if isinstance(dtype, pl.Float64):
        return column
    if dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    return json_text(name, dtype)


def json_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the expression that formats a result as JSON."""
    column = pl.col(name)
    if dtype.is_numeric() or isinstance(dtype, pl.Boolean):
        # Takes a third of the time of encoding. (And polars would encode decimals as strings.)
        return column.cast(pl.String).fill_null("null")
    return _encoded(column, dtype, name).alias(name)


def _encoded(value: pl.Expr, dtype: Any, name: str) -> pl.Expr:
    """Return the expression that formats a value as JSON, `null` for null."""
    if isinstance(dtype, pl.Decimal):
        return value.cast(pl.String).fill_null("null")
    if isinstance(dtype, pl.Struct) and (not dtype.fields or _has(dtype, pl.Decimal)):
        fields = [
            pl.concat_str(pl.lit(member_prefix(f.name)), _encoded(value.struct.field(f.name), f.dtype, name))
            for f in dtype.fields
        ]
        text = pl.concat_str(pl.lit("{"), pl.concat_str(*fields, separator=",") if fields else pl.lit(""), pl.lit("}"))
        return pl.when(value.is_not_null()).then(text).otherwise(pl.lit("null"))
    if isinstance(dtype, pl.List) and _has(dtype, pl.Decimal):
        texts = value.list.eval(_encoded(pl.element(), dtype.inner, name)).list.join(",")
        return pl.concat_str(pl.lit("["), texts, pl.lit("]")).fill_null("null")
    encoded = pl.struct(_spell_temporal(value, dtype, name).alias("")).struct.json_encode()
    return encoded.str.strip_prefix('{"":').str.strip_suffix("}")


def _spell_temporal(value: pl.Expr, dtype: Any, name: str) -> pl.Expr:
    """Return the value with dates, times and durations in it as ISO 8601 strings."""
    if isinstance(dtype, pl.Binary | pl.Object):
        raise CalculationError(f"the result `{name}` is {dtype}, which has no place in JSON; make it a string first")
    if isinstance(dtype, pl.Date | pl.Time | pl.Datetime | pl.Duration):
        return value.dt.to_string("iso:strict")
    if isinstance(dtype, pl.List | pl.Array) and _has(dtype, *_SPELT):
        elements = _spell_temporal(pl.element(), dtype.inner, name)
        return value.list.eval(elements) if isinstance(dtype, pl.List) else value.arr.eval(elements)
    if isinstance(dtype, pl.Struct) and _has(dtype, *_SPELT):  # rebuilt only then, which takes polars long
        fields = [_spell_temporal(value.struct.field(f.name), f.dtype, name).alias(f.name) for f in dtype.fields]
        return pl.when(value.is_not_null()).then(pl.struct(fields))
    return value


_SPELT = (pl.Date, pl.Time, pl.Datetime, pl.Duration, pl.Binary, pl.Object)
"""The types that `_spell_temporal` changes or refuses."""


def _has(dtype: Any, *kinds: type[pl.DataType]) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        return _has(dtype.inner, *kinds)
    if isinstance(dtype, pl.Struct):
        return any(_has(field.dtype, *kinds) for field in dtype.fields)
    return isinstance(dtype, kinds)


def count_nonfinite(values: pl.Series) -> int:
    """Return how many NaN and infinite numbers the values contain."""
    if isinstance(values.dtype, pl.List | pl.Array):
        return count_nonfinite(values.explode())
    if isinstance(values.dtype, pl.Struct):
        return sum(count_nonfinite(field) for field in values.struct.unnest() if has_floats(field.dtype))
    numbers = values.to_numpy()
    return int(np.count_nonzero(~np.isfinite(numbers))) - values.null_count()  # to_numpy makes NaN of null


_PROBE_ROWS = 1000
_MASK = "the filter"
_RULE = "the rule"
_NO_RULE = -1
# In an error about a single row, polars also lists the copy that it was padded with, which would only confuse.
_TWICE = re.compile(r" for \d+ out of \d+ values: \[(?P<values>.+), (?P=values)\]$")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The results of a calculation on a frame.

    Attributes:
        kept: The rows that no rule rejects and that pass the filters, in order.
        filtered: How many rows that no rule rejects do not pass the filters.
        results: A column for each result, with one row for each row kept: numbers as Float64 or Int64, null where they
            are, and anything else as JSON text.
        nonfinite: How many NaN and infinite numbers each result had, which are written as null.
        failed: The errors of the rows for which polars raised one.
        refused: The rows that a rule rejects, in order.
        refused_by: For each of these, the number of the first rule that does.
    """

    kept: Positions
    filtered: int
    results: pl.DataFrame
    nonfinite: dict[str, int]
    failed: dict[int, LineError]
    refused: Positions
    refused_by: Positions


class Evaluator:
    """Evaluates one calculation on frames of one schema.

    Args:
        results: Expressions by name.
        filters: A row is kept if all of them are true.
        schema: The columns of the frames.
        pure: Whether Python functions in the expressions were declared to be pure functions of one row.
        sql: The SQL that expressions were made from, by the name of the result or the place of the filter.
        rules: A row is rejected if one of them is true; then neither filters nor results are evaluated on it.

    Raises:
        CalculationError: polars refuses an expression, it is not row-wise, or JSON has no values of its type.
    """

    def __init__(
        self,
        results: Mapping[str, pl.Expr],
        filters: Sequence[pl.Expr],
        schema: Mapping[str, pl.DataType],
        *,
        pure: bool = False,
        sql: Mapping[str | int, str] = {},
        rules: Sequence[Rule] = (),
    ) -> None:
        shown = [f"the filter `{sql.get(place, as_text(expr))}`" for place, expr in enumerate(filters)]
        shown += [f"the rule `{rule.text}`" for rule in rules]
        exprs, self._overflow, self._hashes = _exact(results, schema, pure=pure, sql=sql)
        conditions = dict(enumerate(filters))
        filters, self._filter_overflow, self._filter_hashes = _exact(conditions, schema, pure=pure, sql=sql)
        numbered = {number: rule.predicate for number, rule in enumerate(rules)}
        of_rules: dict[str | int, str] = {number: rule.sql for number, rule in enumerate(rules) if rule.sql}
        predicates, self._rule_overflow, self._rule_hashes = _exact(numbered, schema, pure=pure, sql=of_rules)
        self._rule = _first_true(predicates).alias(_RULE) if rules else None
        self._results = [expr.alias(name) for name, expr in zip(results, exprs, strict=True)]
        self._names = list(results)
        # polars does not wrap the exceptions of Python functions.
        self._failures: tuple[type[BaseException], ...] = (
            (Exception, *REFUSALS) if pure else (*REFUSALS, _RefusedRowError)
        )
        self._filter = pl.all_horizontal(*filters).fill_null(value=False).alias(_MASK) if filters else None
        self._into_lists = looks_into_lists([*self._results, *filters, *predicates])
        empty = pl.DataFrame(schema=schema)
        try:
            self.types: dict[str, pl.DataType] = dict(self._compute(empty).schema)
        except self._failures as error:
            named = ", ".join(f"`{name}`" for name in self._names)
            raise CalculationError(f"{named} cannot be computed, whatever the line: {first_line(error)}") from None
        conditions_of = [(self._filter_hashes, predicate) for predicate in filters]
        conditions_of += [(self._rule_hashes, predicate) for predicate in predicates]
        for (steps, predicate), text in zip(conditions_of, shown, strict=True):
            _check_condition(_with_hashes(empty, steps).select(predicate).dtypes[0], text)
        self._written = {name: written(name, dtype) for name, dtype in self.types.items()}
        self._all_floats = bool(self.types) and all(isinstance(dtype, pl.Float64) for dtype in self.types.values())
        self._with_floats = [name for name, dtype in self.types.items() if has_floats(dtype)]

    def evaluate(self, frame: pl.DataFrame) -> Evaluated:
        """Return the results for all rows; if polars fails on a row, the frame is halved until the row is found."""
        try:
            return self._evaluate(frame)
        except self._failures as error:
            if frame.height == 1:
                failed = {0: LineError("the calculation failed", _failure(error))}
                none = self._compute(frame.clear()).select(self._written.values())
                return Evaluated(_NO_ROWS, 0, none, {}, failed, _NO_ROWS, _NO_ROWS)
        middle = frame.height // 2
        return _join(self.evaluate(frame.head(middle)), self.evaluate(frame.slice(middle)), middle)

    def compute(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the columns read and the results of the rows that no rule rejects and that pass the filters."""
        kept = frame
        if self._rule is not None:
            kept = kept.filter(self._one(_with_hashes(kept, self._rule_hashes), self._rule) == _NO_RULE)
        if self._filter is not None:
            kept = kept.filter(self._one(_with_hashes(kept, self._filter_hashes), self._filter))
        return compute_padded(_with_hashes(kept, self._hashes), self._results, into_lists=self._into_lists)

    def probe(self, frame: pl.DataFrame) -> None:
        """Raise if the first rows give different results when they are evaluated together and in pieces.

        Raises:
            CalculationError: They do, although `check_row_wise` has accepted the calculation.
        """
        frame = frame.head(_PROBE_ROWS)
        cuts = sorted({0, min(1, frame.height), frame.height // 3, frame.height})
        try:
            whole = self.compute(frame)
            pieces = [self.compute(frame.slice(start, stop - start)) for start, stop in itertools.pairwise(cuts)]
        except self._failures:
            return  # a row fails: its line will be rejected later
        for name in self._names:
            parts = [piece[name] for piece in pieces]
            if parts and not (len({p.dtype for p in parts}) == 1 and whole[name].equals(pl.concat(parts))):
                raise CalculationError(
                    f"`{name}` is not row-wise: the same lines give other results when they are evaluated apart"
                )

    def _compute(self, frame: pl.DataFrame) -> pl.DataFrame:
        frame = _with_hashes(frame, self._hashes)
        return compute_padded(frame, self._results, into_lists=self._into_lists).select(self._names)

    def _one(self, frame: pl.DataFrame, expr: pl.Expr) -> pl.Series:
        return compute_padded(frame, [expr], into_lists=self._into_lists)[expr.meta.output_name()]

    def _evaluate(self, frame: pl.DataFrame) -> Evaluated:
        kept, refused, refused_by = np.arange(frame.height), _NO_ROWS, _NO_ROWS
        if self._rule is not None:
            with_hashes = _with_hashes(frame, self._rule_hashes)
            _refuse(with_hashes, self._rule_overflow)
            numbers = self._one(with_hashes, self._rule).to_numpy()
            refused, kept = np.flatnonzero(numbers != _NO_RULE), np.flatnonzero(numbers == _NO_RULE)
            refused_by = numbers[refused].astype(np.int64)
            frame = frame[kept] if len(refused) else frame
        rows = frame
        if self._filter is not None:
            with_hashes = _with_hashes(frame, self._filter_hashes)
            _refuse(with_hashes, self._filter_overflow)
            mask = self._one(with_hashes, self._filter)
            kept, rows = kept[mask.to_numpy()], frame.filter(mask)
        rows = _with_hashes(rows, self._hashes)
        _refuse(rows, self._overflow)
        results = compute_padded(rows, self._results, into_lists=self._into_lists) if self._results else rows
        _check_types(results.schema, self.types)
        nonfinite = {name: count for name in self._with_floats if (count := count_nonfinite(results[name]))}
        for name in nonfinite:
            if results.schema[name].is_float():
                results = results.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)))
        return Evaluated(kept, frame.height - rows.height, self._write(results), nonfinite, {}, refused, refused_by)

    def _write(self, results: pl.DataFrame) -> pl.DataFrame:
        """Return the results as they are written; integers beyond 64 bits become text."""
        if not self.types:
            return pl.DataFrame(height=results.height)
        found = results[self._names] if self._all_floats else results.select(self._written.values())
        wide = [
            json_text(name, dtype)
            for name, dtype in self.types.items()
            if dtype.is_integer() and found[name].null_count() != results[name].null_count()
        ]
        return found.with_columns(results.select(wide).get_columns()) if wide else found


_NO_ROWS = np.empty(0, np.int64)


def _first_true(predicates: Sequence[pl.Expr]) -> pl.Expr:
    """Return the expression of the number of the first condition that is true, `_NO_RULE` if none is."""
    found = pl.lit(_NO_RULE, pl.Int32)
    for number, predicate in reversed([*enumerate(predicates)]):
        found = pl.when(predicate.cast(pl.Boolean)).then(pl.lit(number, pl.Int32)).otherwise(found)
    return found


class _RefusedRowError(Exception):
    """Some row fails a check, as where integer arithmetic leaves Int128."""


@dataclass(frozen=True, slots=True)
class _HashStep:
    """A column of hashes that expressions read.

    Attributes:
        column: Its name.
        value: The expression of the text that is hashed.
        overflow: The checks of the integers in that.
        key: The key, None for a hash without one.
    """

    column: str
    value: pl.Expr
    overflow: Overflow
    key: bytes | None = field(repr=False)


def _with_hashes(frame: pl.DataFrame, steps: Sequence[_HashStep]) -> pl.DataFrame:
    """Return a frame with the columns of hashes."""
    for step in steps:
        _refuse(frame, step.overflow)
        found = compute_padded(frame, [step.value], into_lists=looks_into_lists([step.value]))[step.column]
        frame = frame.with_columns(hashed(found, step.key))
    return frame


def _exact(
    exprs: Mapping[Any, pl.Expr], schema: Mapping[str, pl.DataType], *, pure: bool, sql: Mapping[str | int, str]
) -> tuple[list[pl.Expr], Overflow, list[_HashStep]]:
    """Return expressions with exact arithmetic, once they are known to be row-wise and of types that go together.

    Also return the columns of hashes that they read.
    """
    found, steps, schema = list[tuple[pl.Expr, list[Check]]](), list[_HashStep](), dict(schema)
    key = read_key() if uses_key(exprs.values()) else None
    for place, given in exprs.items():
        expr, hashes = extract(given, schema.__contains__)
        for one in hashes:
            steps.append(_hash_step(one, schema, key, pure=pure, text=sql.get(place)))
            schema[one.column] = pl.String()
        found.append(_exact_one(expr, schema, pure=pure, text=sql.get(place)))
    return [expr for expr, _ in found], Overflow([check for _, checks in found for check in checks]), steps


def _hash_step(
    one: Hash, schema: Mapping[str, pl.DataType], key: bytes | None, *, pure: bool, text: str | None
) -> _HashStep:
    value, checks = _exact_one(one.value, schema, pure=pure, text=text)
    (dtype,) = pl.DataFrame(schema=schema).lazy().select(value.alias("")).collect_schema().dtypes()
    if not (isinstance(dtype, pl.String | pl.Null) or dtype.is_integer()):
        raise CalculationError(
            f"{one.kind} takes text or integers, and {show(one.value) if text is None else f'what it has in `{text}`'} "
            f"is {dtype}: convert it, with CAST(… AS VARCHAR) or in Python .cast(pl.String)"
        )
    value = value.cast(pl.String).alias(one.column)
    return _HashStep(one.column, value, Overflow(checks), key if one.kind == HMAC_SHA256 else None)


def _exact_one(
    given: pl.Expr, schema: Mapping[str, pl.DataType], *, pure: bool, text: str | None
) -> tuple[pl.Expr, list[Check]]:
    expr = sql_literals(given)
    read = [name for name in columns_read([expr]) if name in schema] or list(schema)[:1]
    columns = {name: schema[name] for name in read}
    checked = without_negation(expr)
    check_types(expr, columns, text=text)
    try:
        check_row_wise(checked, columns, pure=pure)
    except CalculationError as error:
        if text is None:
            raise
        raise CalculationError(str(error).replace(show(checked), f"`{text}`")) from None
    return with_exact_arithmetic(expr, columns)


def _check_types(found: Mapping[str, pl.DataType], planned: Mapping[str, pl.DataType]) -> None:
    """Raise if results are of other types than planned, by which they are formatted as JSON."""
    for name, dtype in planned.items():
        if found[name] != dtype:
            raise CalculationError(
                f"the result `{name}` is {found[name]} on some lines, where polars had planned {dtype}. Convert its "
                "parts to one type, with CAST(… AS …) or in Python .cast(…)"
            )


def _check_condition(dtype: pl.DataType, text: str) -> None:
    """Raise if a filter or a rule is neither true nor false."""
    if dtype not in (pl.Boolean, pl.Null):
        raise CalculationError(
            f"{text} gives {dtype}, not true or false: write a comparison, as in `a = 1`, in Python pl.col('a') == 1"
        )


def _refuse(frame: pl.DataFrame, overflow: Overflow) -> None:
    if reason := overflow.occurs(frame):
        raise _RefusedRowError(reason)


def _failure(error: BaseException) -> str:
    text = _TWICE.sub(r": \g<values>", first_line(error))
    known = isinstance(error, (*REFUSALS, _RefusedRowError))
    return text if known else f"{type(error).__name__}: {text}"


def _join(first: Evaluated, second: Evaluated, offset: int) -> Evaluated:
    nonfinite = {
        name: first.nonfinite.get(name, 0) + second.nonfinite.get(name, 0)
        for name in first.nonfinite | second.nonfinite
    }
    return Evaluated(
        kept=np.concatenate([first.kept, second.kept + offset]),
        filtered=first.filtered + second.filtered,
        results=_concat(first.results, second.results),
        nonfinite=nonfinite,
        failed=first.failed | {row + offset: error for row, error in second.failed.items()},
        refused=np.concatenate([first.refused, second.refused + offset]),
        refused_by=np.concatenate([first.refused_by, second.refused_by]),
    )


def _concat(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Return the results of two frames, of which one may have integers as text."""
    if first.schema == second.schema:
        return pl.concat([first, second])
    wide = [name for name, dtype in first.schema.items() if dtype != second.schema[name]]
    texts = [json_text(name, pl.Int128()).alias(name) for name in wide]
    return pl.concat(
        part.with_columns(text for name, text in zip(wide, texts, strict=True) if part.schema[name] != pl.String)
        for part in (first, second)
    )
