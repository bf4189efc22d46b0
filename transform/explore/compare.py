"""A comparison of a calculation of expressions with the function of one line that it replaces.

The objects that both return are compared member by member; missing and null differ, as do integers and floats.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from transform import html
from transform.decode.line_errors import LineError
from transform.engine.function import Function, FunctionPlan
from transform.engine.plan import ExpressionPlan
from transform.engine.run import retry_widened
from transform.engine.spec import ExpressionSpec
from transform.engine.summary import State
from transform.errors import OptionError
from transform.explore.preview import FirstLines
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine
from transform.io.sources import Source, open_source
from transform.sizes import count_option
from transform.terminal_text import printable

ONLY_OURS = "only the expressions give it"
ONLY_THEIRS = "only the function gives it"
NULL_OURS = "null by the expressions"
NULL_THEIRS = "null by the function"
INTEGER_OR_FLOAT = "integer against float"
TYPE = "another type"
VALUE = "another value"
LENGTH = "another length"
ORDER = "another order of members"
DUPLICATES = "another number of members of that name"
DROPPED = "only one of them drops the line"
REJECTED = "only one of them rejects the line"
TOO_DEEP = "nested too deep to be compared"
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between the results of the expressions and of the function for a line.

    Attributes:
        member: The member, as `address.city` or `tags[]`; empty for the line itself.
        kind: What differs.
        ours: The value that the expressions give, as JSON; empty if the member is missing.
        theirs: The value that the function gives, as JSON; empty if the member is missing.
        relative: The difference of two numbers as a share of the larger; else None.
    """

    member: str
    kind: str
    ours: str = ""
    theirs: str = ""
    relative: float | None = None


class _Object(list[tuple[str, Any]]):
    """The members of an object, with duplicates and in order."""


def differences(ours: bytes, theirs: bytes, rel_tol: float = 0.0) -> list[Difference]:
    """Return how two JSON objects differ.

    Args:
        ours: The text of one object.
        theirs: The text of the other.
        rel_tol: Floats whose difference is at most this share of the larger count as equal.
    """
    try:
        return list(_value_differences(_parse(ours), _parse(theirs), "", rel_tol))
    except RecursionError:
        return [] if ours == theirs else [Difference("", TOO_DEEP)]


def shorten(text: str) -> str:
    """Return a text, or as much of its start as fits in a table."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _parse(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=_Object, parse_int=_integer)


def _integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # more digits than Python converts
        return float(text)


_Pair = tuple[Any, Any, str]
"""Two values to compare, and the member that they belong to."""


def _value_differences(ours: Any, theirs: Any, member: str, rel_tol: float) -> Iterator[Difference]:
    """Yield how two values differ, depth first; without recursion, as they may be nested deeply."""
    pending = [_steps(ours, theirs, member, rel_tol)]
    while pending:
        found = next(pending[-1], None)
        if found is None:
            pending.pop()
        elif isinstance(found, Difference):
            yield found
        else:
            pending.append(_steps(*found, rel_tol))


def _steps(ours: Any, theirs: Any, member: str, rel_tol: float) -> Iterator[Difference | _Pair]:
    """Yield how two values differ, and the pairs of values in them that are still to be compared."""
    if isinstance(ours, _Object) and isinstance(theirs, _Object):
        yield from _member_steps(ours, theirs, member)
    elif type(ours) is list and type(theirs) is list:
        if len(ours) != len(theirs):
            yield Difference(member, LENGTH, _text(ours), _text(theirs))
        for one, other in zip(ours, theirs, strict=False):
            yield one, other, f"{member}[]"
    elif (kind := _kind_of_difference(ours, theirs, rel_tol)) is not None:
        yield Difference(member, kind, _text(ours), _text(theirs), _relative(ours, theirs))


def _member_steps(ours: _Object, theirs: _Object, member: str) -> Iterator[Difference | _Pair]:
    names, others = Counter(name for name, _ in ours), Counter(name for name, _ in theirs)
    values, wanted = dict(ours), dict(theirs)  # of duplicates, the last counts
    for name in dict.fromkeys([*names, *others]):
        path = f"{member}.{name}" if member else name
        if name not in values:
            yield Difference(path, ONLY_THEIRS, theirs=_text(wanted[name]))
        elif name not in wanted:
            yield Difference(path, ONLY_OURS, ours=_text(values[name]))
        else:
            if names[name] != others[name]:
                yield Difference(path, DUPLICATES, str(names[name]), str(others[name]))
            yield values[name], wanted[name], path
    if [name for name in values if name in wanted] != [name for name in wanted if name in values]:
        in_order = [shorten(", ".join(name for name, _ in members)) for members in (ours, theirs)]
        yield Difference(member, ORDER, in_order[0], in_order[1])


def _kind_of_difference(ours: Any, theirs: Any, rel_tol: float) -> str | None:
    if ours is None or theirs is None:
        return None if ours is theirs else NULL_OURS if ours is None else NULL_THEIRS
    if type(ours) is type(theirs):
        close = type(ours) is float and math.isclose(ours, theirs, rel_tol=rel_tol)
        return None if close or ours == theirs else VALUE
    if {type(ours), type(theirs)} == {int, float}:
        return INTEGER_OR_FLOAT if ours == theirs or math.isclose(ours, theirs, rel_tol=rel_tol) else VALUE
    return TYPE


def _relative(ours: Any, theirs: Any) -> float | None:
    if not {type(ours), type(theirs)} <= {int, float}:
        return None
    try:
        larger = max(abs(ours), abs(theirs))
        return float(abs(ours - theirs) / larger) if larger and math.isfinite(larger) else None
    except OverflowError:  # an integer that is too large for a float
        return None


def _text(value: Any) -> str:
    return shorten(json.dumps(_plain(value), ensure_ascii=False))


def _plain(value: Any, depth: int = 0) -> Any:
    if depth > _SHOWN_CHARACTERS:  # what comes now is not shown
        return None
    if isinstance(value, _Object):
        return {name: _plain(of, depth + 1) for name, of in value}
    return [_plain(of, depth + 1) for of in value] if isinstance(value, list) else value


_EXAMPLES = 3
_SPACES = b" \t\r"
_KEPT, _DROPPED = "kept", "dropped"


@dataclass(frozen=True, slots=True)
class Example:
    """A line that differs: its number, from 1 on, and the values that both give, as JSON."""

    line: int
    expressions: str
    function: str


@dataclass(frozen=True, slots=True)
class Found:
    """A difference, with the lines in which it was found.

    Attributes:
        member: The name of the member, `a.b` for one within another, `a[]` for the elements of a list; empty for the
            whole line.
        kind: What differs.
        lines: The number of lines.
        examples: The first of them.
        relative: The largest difference of numbers, as a share of the larger; else None.
    """

    member: str
    kind: str
    lines: int
    examples: tuple[Example, ...]
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where expressions and a function of one line give different results.

    Attributes:
        source: The input.
        function: The function's name.
        lines: The number of lines compared; blank ones are not.
        equal: The number of lines for which both give the same; so do lines that both drop or both reject.
        whole: Whether the whole input was read.
        found: The differences, the most frequent first.

    Example:
        >>> import io
        >>> from transform import Calculation
        >>> lines = io.BytesIO(b'{"a":1,"b":2}')
        >>> compared = Calculation().drop("a").compare(lambda json_obj: json_obj, lines)
        >>> compared.same, compared.to_frame().row(0)
        (False, ('a', 'only the function gives it', 1, 1, '', '1'))
    """

    source: str
    function: str
    lines: int = 0
    equal: int = 0
    whole: bool = True
    found: tuple[Found, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no line differs."""
        return self.lines == self.equal

    def to_frame(self) -> pl.DataFrame:
        """Return the examples of all differences, one in each row.

        The columns are `member`, `kind`, `lines` (the number of lines with this difference), `line` (the number of the
        example), `expressions` and `function`.
        """
        rows = [
            (found.member, found.kind, found.lines, example.line, example.expressions, example.function)
            for found in self.found
            for example in found.examples
        ]
        schema = {"member": pl.String, "kind": pl.String, "lines": pl.Int64, "line": pl.Int64}
        return pl.DataFrame(rows, schema=schema | {"expressions": pl.String, "function": pl.String}, orient="row")

    def __repr__(self) -> str:
        lines = [f"Comparison with {self.function}(…): {self._headline()}"]
        for found in self.found:
            lines.append(f"  {found.member or '(the line)'}: {_kind(found)}, in {found.lines:,} lines")
            lines += [
                f"    line {example.line:,}: {example.expressions or 'nothing'} by the expressions, "
                f"{example.function or 'nothing'} by {self.function}(…)"
                for example in found.examples
            ]
        return "\n".join(printable(line) for line in lines)

    def _repr_html_(self) -> str:
        rows: list[tuple[html.Cell, ...]] = []
        for found in self.found:
            for number, example in enumerate(found.examples):
                start = (found.member or "(the line)", _kind(found), found.lines) if not number else ("", "", "")
                rows.append((*start, example.line, html.Code(example.expressions), html.Code(example.function)))
        header = ("member", "differs by", "lines", "as line", "the expressions give", f"{self.function}(…) gives")
        told = self._headline() if self.same else html.Bad(self._headline())
        return html.render(f"Comparison with {self.function}(…)", told, html.Table(rows, header))

    def _headline(self) -> str:
        which = f"all {self.lines:,} lines" if self.whole else f"the first {self.lines:,} lines"
        if self.same:
            return f"the same for {which} of {self.source}"
        return f"{self.lines - self.equal:,} of {which} of {self.source} differ"


def compare(spec: ExpressionSpec, function: Function, source: Source, lines: int | None, rel_tol: float) -> Comparison:
    """Compare the results of the expressions and of a function for the lines of an input; see `Calculation.compare`."""
    lines = None if lines is None else count_option("lines", lines)
    if isinstance(rel_tol, bool) or not isinstance(rel_tol, int | float) or not 0 <= rel_tol <= 1:
        raise OptionError(f"rel_tol is a share from 0 to 1, not {rel_tol!r:.80}")
    call = FunctionPlan(function).call

    def attempt(state: State) -> Comparison:
        tally = _Tally()
        with open_source(source) as reader:
            plan, chunks = spec.prepare(
                spec.rows.read(reader.read_into), MAX_LINE_BYTES, state.widened, info=reader.info
            )
            first_lines = FirstLines(spec.rows.expanded(chunks), lines)
            for outcome in _outcomes(plan, first_lines):
                tally.add(outcome.number, _differ(outcome, call, rel_tol))
        name = str(getattr(function, "__name__", "the function"))
        found = sorted(tally.found.values(), key=lambda one: -one.lines)
        return Comparison(reader.name, name, tally.lines, tally.equal, first_lines.whole, tuple(found))

    return retry_widened(source, attempt)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of the expressions for a line: its text, None if they drop it; or the reason if they reject it."""

    number: int
    line: bytes
    text: bytes | None = None
    reason: str | None = None


def _outcomes(plan: ExpressionPlan, chunks: Iterable[Chunk | LongLine]) -> Iterator[_Outcome]:
    """Yield the result of the expressions for each line that is not blank, nor over the limit."""
    before = 0
    for chunk in chunks:
        if isinstance(chunk, LongLine):
            before += 1
            continue
        evaluated = plan.evaluate(chunk)
        result = plan.splice(evaluated)
        texts = dict(zip(evaluated.kept_lines.tolist(), b"".join(result.output).split(b"\n"), strict=False))
        reasons = {reject.line: reject.reason for reject in evaluated.rejects}
        for index, line in enumerate(bytes(chunk.data).split(b"\n")):
            if line.strip(_SPACES):
                yield _Outcome(before + index + 1, line, texts.get(index), reasons.get(index))
        before += result.lines


def _differ(outcome: _Outcome, call: Callable[[bytes], bytes | None], rel_tol: float) -> list[Difference]:
    text, reason = None, None
    try:
        text = call(outcome.line)
    except LineError as error:
        reason = str(error)
    if outcome.text is not None and text is not None:
        return differences(outcome.text, text, rel_tol)
    ours, theirs = _verdict(outcome.text, outcome.reason), _verdict(text, reason)
    if (ours, theirs) == (_DROPPED, _DROPPED) or (outcome.reason is not None and reason is not None):
        return []
    kind = REJECTED if reason is not None or outcome.reason is not None else DROPPED
    return [Difference("", kind, shorten(ours), shorten(theirs))]


def _verdict(text: bytes | None, reason: str | None) -> str:
    return reason if reason is not None else _DROPPED if text is None else _KEPT


@dataclass(slots=True)
class _Tally:
    """The lines compared, and their differences by member and kind."""

    lines: int = 0
    equal: int = 0
    found: dict[tuple[str, str], Found] = field(default_factory=dict)

    def add(self, line: int, differences: list[Difference]) -> None:
        """Count a line; of several differences of one member and kind, the first."""
        self.lines += 1
        self.equal += not differences
        for key, one in {(one.member, one.kind): one for one in reversed(differences)}.items():
            found = self.found.get(key) or Found(*key, 0, ())
            examples = found.examples
            if len(examples) < _EXAMPLES:
                examples = (*examples, Example(line, one.ours, one.theirs))
            relative = max((r for r in (found.relative, one.relative) if r is not None), default=None)
            self.found[key] = Found(*key, found.lines + 1, examples, relative)


def _kind(found: Found) -> str:
    return f"{found.kind} (relatively by {found.relative:.1g} at most)" if found.relative else found.kind
