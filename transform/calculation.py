"""A calculation of expressions: immutable, and built step by step; a run or a preview starts from it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from transform.decode.near_names import unread_types
from transform.decode.schema import check_declared, parse_type
from transform.engine.module_sources import Modules, import_missing_from
from transform.engine.spec import ExpressionSpec
from transform.errors import CalculationError, OptionError, SchemaError
from transform.expressions.parse import (
    in_sql,
    joined_text,
    name_results,
    parse_condition,
    parse_texts,
    shown_pieces,
    to_expression,
)
from transform.expressions.pseudonyms import as_text
from transform.expressions.rules import Rule, checked_reason, parse_rules
from transform.runnable import Runnable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import NoReturn, Self

    import polars as pl

    from transform.decode.row_format import RowFormat
    from transform.engine.function import Function
    from transform.explore.compare import Comparison
    from transform.explore.profile import Profile
    from transform.io.sources import Source
    from transform.line_function import LineFunction

COMPARED_LINES = 10_000
PROFILED_BYTES = 256_000_000


class Calculation(Runnable):
    """A pure function of one line, defined by polars expressions; immutable.

    Each result is spliced into the line it was computed from: it replaces the member of its name, or is appended.
    Expressions see the members of the input line, never each other's results.

    Args:
        exprs: Expressions that have a name (`.alias(…)`), or the names of columns.
        named_exprs: Expressions by the name of the result; also a number, a boolean or None.

    Raises:
        CalculationError: An expression has no name, or two have the same.

    Example:
        >>> import polars as pl
        >>> calculation = Calculation(review_score=pl.col("stars") * pl.col("review_count"))
        >>> calculation.columns
        ('stars', 'review_count')
    """

    __slots__ = ("_spec",)
    _spec: ExpressionSpec

    def __init__(self, /, *exprs: object, **named_exprs: object) -> None:
        self._set(ExpressionSpec(name_results(exprs, named_exprs)))

    @classmethod
    def from_sql(cls, expressions: str | Sequence[str] = "", where: str = "", reject: str | Sequence[str] = ()) -> Self:
        """Return the calculation that SQL text describes.

        Args:
            expressions: As in a SELECT list: `stars * review_count AS review_score, lower(city) AS city`; or several
                such texts, each of which is parsed on its own.
            where: A condition: `is_open = 1`.
            reject: Rules, each a condition for which a line is rejected, with the reason after a colon if one is given,
                separated by `;`: `stars < 0: negative stars; city IS NULL`; or several such texts. See `reject`.

        Raises:
            OptionError: One of them is no text, or the rules are not understood.
            CalculationError: The text is not understood.

        Example:
            >>> Calculation.from_sql("stars * 2 AS double", where="is_open = 1").columns
            ('stars', 'is_open')
        """
        texts = [expressions] if isinstance(expressions, str) else expressions
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise OptionError(f"expressions is SQL text, or a list of such texts, not {expressions!r:.80}")
        if not isinstance(where, str):
            raise OptionError(f"where is SQL text, not {where!r:.80}; without a condition, leave it out")
        if isinstance(reject, str):
            reject = [reject] if reject.strip() else []
        if not isinstance(reject, list | tuple) or not all(isinstance(text, str) for text in reject):
            raise OptionError(f"reject is rules as text, or a list of such texts, not {reject!r:.80}")
        exprs = parse_texts(texts) if len(texts) > 1 or any(text.strip() for text in texts) else []
        joined = joined_text(texts, exprs)  # a calculation has one identity, however its text is divided
        origin = texts if joined is None else [joined]
        written = shown_pieces(texts)
        try:
            calculation = cls(*exprs)
        except CalculationError as error:
            raise CalculationError(in_sql(str(error), exprs, written)) from None
        sql: dict[str | int, str] = dict(zip(calculation.results, written, strict=False))
        if where.strip():
            calculation, sql[0] = calculation.filter(parse_condition(where)), where.strip()
        rules = [rule for text in reject for rule in parse_rules(text)]
        calculation = calculation.with_rules(
            Rule(parse_condition(condition), checked_reason(reason, condition), condition)
            for condition, reason in rules
        )
        return calculation.made_from((b"sql", *(text.encode() for text in origin)), sql)

    @property
    def digest(self) -> str:
        """Its identity: a SHA-256 over its text or expressions, declared types and options."""
        return self._spec.digest

    def made_from(self, origin: tuple[bytes, ...], sql: Mapping[str | int, str] | None = None) -> Self:
        """Return the same calculation with the text that it was made from, as its identity.

        Args:
            origin: The text, or the bytes of the file.
            sql: The SQL of the results, by name, and of the filters, by place, as messages show it.
        """
        return self._with(origin=origin, sql=self._spec.sql if sql is None else dict(sql))

    def with_modules(self, modules: Modules) -> Self:
        """Return the same with the modules beside its file, from which worker processes import."""
        return self._with(modules={**modules, **self._spec.modules})

    def changing_rows(self, change: Callable[[RowFormat], RowFormat]) -> Self:
        """Return the same for inputs with other rows; `change` gets what they are now."""
        return self._with(rows=change(self._spec.rows))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the expressions, filters and rules read."""
        return tuple(self._spec.columns)

    @property
    def results(self) -> tuple[str, ...]:
        """The names of the results."""
        return tuple(self._spec.results)

    def filter(self, *predicates: object) -> Self:
        """Return the calculation that also drops the lines for which a predicate is false or null."""
        filters = (*self._spec.filters, *(to_expression(predicate) for predicate in predicates))
        return self._with(filters=filters)

    def reject(self, predicate: object, reason: str | None = None) -> Self:
        r"""Return the calculation that also rejects the lines for which a predicate is true.

        Such a line is one of the rejected lines of a run, counted and kept as those that are not valid. Rules are
        checked on the lines as they are read, before the filters, and in the order in which they were given: the
        first that is true gives the reason. A line for which a predicate is null is not rejected by it. Neither
        filters nor results are evaluated on a line that is rejected.

        Args:
            predicate: A condition.
            reason: Why such a line is rejected; by default it is made of the condition.

        Raises:
            CalculationError: The predicate is no expression, or the reason no text.

        Example:
            >>> import io
            >>> import polars as pl
            >>> calculation = Calculation().reject(pl.col("stars") < 0, "negative stars")
            >>> calculation.preview(io.BytesIO(b'{"stars":4}\n{"stars":-1}'), rejected=(rejected := [])).to_dicts()
            [{'stars': 4}]
            >>> rejected
            ['line 2 (offset 12): negative stars']
        """
        expr = to_expression(predicate)
        return self.with_rules([Rule(expr, checked_reason(reason, as_text(expr)))])

    def with_rules(self, rules: Iterable[Rule]) -> Self:
        """Return the calculation that also rejects the lines that rules say."""
        return self._with(rules=(*self._spec.rules, *rules))

    def with_schema(self, schema: Mapping[str, object]) -> Self:
        """Return the calculation with the types of columns declared, rather than inferred.

        Lines that hold something else are rejected. Integers of every width are evaluated as Int128.

        Args:
            schema: polars types by column: Float64, String, Boolean, Int8 to Int128, UInt8 to UInt64, List and Struct;
                or their names, as `"List(Int64)"`. `"json"` is the text of a member of any kind, as it is in the line.

        Raises:
            SchemaError: A type is not a type of JSON values.
            OptionError: The types are not by column.
        """
        if not isinstance(schema, Mapping) or not all(isinstance(name, str) for name in schema):
            raise OptionError(f"schema is a mapping from names of columns to types, not {schema!r:.80}")
        declared = {
            name: parse_type(name, dtype) if isinstance(dtype, str) else check_declared(name, dtype)
            for name, dtype in schema.items()
        }
        return self._with(schema=self._spec.schema | declared)

    def drop(self, *names: str) -> Self:
        """Return the calculation that also removes the members of these names from the lines, all occurrences.

        A result of the same name is still appended. Expressions can read members that are dropped.
        """
        return self._with(projection=self._spec.projection.dropping(names))

    def select(self, *names: str) -> Self:
        """Return the calculation that keeps only the members of these names in the lines, and the results.

        They stay as they are, in the order of the line. Expressions can read all members.
        """
        return self._with(projection=self._spec.projection.selecting(names))

    def assume_pure(self) -> Self:
        """Return the calculation with its Python functions declared pure: they depend on the values of one row only.

        Without that, expressions with Python functions (`map_elements`, `map_batches`) are refused.
        """
        return self._with(pure=True)

    def preview(self, source: Source, rows: int = 10, *, rejected: list[str] | None = None) -> pl.DataFrame:
        """Return the columns read and the results for the first lines that pass the filters.

        Args:
            source: As for `run`.
            rows: The maximum number of rows.
            rejected: A list to which messages about rejected lines are added, of those that were read.

        Raises:
            TransformError: As `run` does.

        Example:
            >>> import io
            >>> Calculation.from_sql("a + 1 AS b").preview(io.BytesIO(b'{"a":1,"c":true}')).to_dicts()
            [{'a': 1, 'b': 2}]
        """
        from transform.explore.preview import preview as preview_spec

        return preview_spec(self._spec, source, rows, rejected)

    def compare(
        self,
        function: Function | LineFunction,
        source: Source,
        lines: int | None = COMPARED_LINES,
        rel_tol: float = 0,
    ) -> Comparison:
        r"""Run a function of one line beside the expressions, and return where their results differ.

        Differences are counted for each member and kind: one that is missing, null, an integer rather than a float,
        of another type, length, value or order; lines that only one of the two drops or rejects. The function is
        run as `transform` would run it, so that NaN is null.

        Args:
            function: `def calculation(json_obj)`, or the `LineFunction` that `load` returns for one.
            source: As for `run`.
            lines: How many of the first lines to compare; None for all.
            rel_tol: Floats no further apart than this share of the larger count as equal; by default, equal ones only.

        Raises:
            TransformError: As `run` does.

        Example:
            >>> import io
            >>> import polars as pl
            >>> def calculation(json_obj):
            ...     json_obj["double"] = float(json_obj["stars"]) * 2
            ...     return json_obj
            >>> lines = io.BytesIO(b'{"stars":4}\n{"stars":5}\n')
            >>> Calculation(double=pl.col("stars") * 2).compare(calculation, lines)
            Comparison with calculation(…): 2 of all 2 lines of the input stream differ
              double: integer against float, in 2 lines
                line 1: 8 by the expressions, 8.0 by calculation(…)
                line 2: 10 by the expressions, 10.0 by calculation(…)
        """
        from transform.explore.compare import compare as compare_spec
        from transform.line_function import LineFunction

        called = function.function if isinstance(function, LineFunction) else function
        if not callable(called):
            raise CalculationError(f"expected a function of one line, got {type(called).__name__}: {called!r:.80}")
        return compare_spec(self.spec_for(source), called, source, lines, rel_tol)

    def profile(
        self,
        source: Source,
        max_bytes: int | str | None = PROFILED_BYTES,
        *,
        most_bytes: int | str | None = PROFILED_BYTES,
    ) -> Profile:
        r"""Run the calculation in this process, without an output, and return where the time goes.

        The profile has the time of each stage, and estimates for larger inputs and more cores.

        Args:
            source: As for `run`; to include the time that S3 takes, an object.
            max_bytes: How much of the input to read, as a number of bytes or a text such as `64MiB`; None for all.
            most_bytes: The former name of `max_bytes`.

        Raises:
            TransformError: As `run` does.

        Example:
            >>> import io
            >>> import polars as pl
            >>> lines = io.BytesIO(b'{"stars":4}\n' * 1000)
            >>> Calculation(double=pl.col("stars") * 2).profile(lines).lines
            1000
        """
        from transform.explore.profile import profile as profile_spec

        return profile_spec(self.spec_for(source), source, max_bytes if most_bytes == PROFILED_BYTES else most_bytes)

    def check_schema(self) -> None:
        """Raise if a type is declared for a column that no expression or filter reads.

        Raises:
            SchemaError: There is such a column; the message has the nearest names.

        Example:
            >>> calculation = Calculation.from_sql("stars * 2 AS double").with_schema({"starz": "Int64"})
            >>> calculation.check_schema()  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            transform.errors.SchemaError: the schema declares `starz`, but ... reads it. Did you mean `stars`?
        """
        for name in self._spec.schema:
            for problem in unread_types([name], self._spec.declarable):
                raise SchemaError(problem, column=name)

    def spec_for(self, source: Source) -> ExpressionSpec:  # noqa: ARG002 - the same for every input
        """Return the spec of a run on an input.

        Raises:
            CalculationError: There is nothing to do.
        """
        spec = self._spec
        if not (spec.results or spec.filters or spec.rules or spec.projection):
            raise CalculationError(
                "there is nothing to do: give an expression, a filter, a rule, or members to drop or select"
            )
        return self._spec

    def __repr__(self) -> str:
        from transform.explore.describe import describe

        return describe(self._spec)

    def _repr_html_(self) -> str:
        from transform.explore.describe import describe_html

        return describe_html(self._spec)

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to make an equal calculation.

        Raises:
            CalculationError: A Python function in an expression cannot be pickled.
        """
        try:
            content = pickle.dumps(self._spec)
        except Exception as error:  # polars raises several types, whatever the function refers to
            found = " ".join(str(error).split())
            raise CalculationError(
                f"a Python function in the expressions cannot be pickled, nor what it refers to: {found:.200}"
            ) from error
        return _unpickled, (type(self), content, self._spec.modules)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Calculation is immutable; cannot set {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Calculation is immutable; cannot delete {name}")

    def _with(self, **changes: Any) -> Self:
        other = object.__new__(type(self))
        other._set(replace(self._spec, **changes))
        return other

    def _set(self, spec: ExpressionSpec) -> None:
        object.__setattr__(self, "_spec", spec)


def _unpickled(cls: type[Calculation], content: bytes, modules: Modules = {}) -> Calculation:  # noqa: B006 - not changed
    import_missing_from(modules)
    calculation = object.__new__(cls)
    calculation._set(pickle.loads(content))  # noqa: S301 - pickled by the class itself
    return calculation
