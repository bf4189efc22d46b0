"""A comparison of a calculation of expressions with the function of one line that it replaces.

The objects that both return are compared member by member; missing and null differ, as do integers and floats.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from transform import html
from transform.decode.members import LineError
from transform.engine.function import FunctionPlan
from transform.engine.plan import ExpressionPlan
from transform.engine.spec import ExpressionSpec
from transform.engine.state import State, retry_widened
from transform.explore.preview import FirstLines
from transform.io.chunks import MAX_LINE_BYTES, Chunk, LongLine, read_chunks
from transform.io.sources import Source, open_source

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
    """One difference between what the expressions and what the function make of a line.

    Attributes:
        member: Which, as `address.city` or `tags[]`; nothing for the line itself.
        kind: What differs.
        ours: What the expressions give there, as JSON; nothing where it is missing.
        theirs: What the function gives there.
        relative: Of two numbers, how far they are apart as a share of the larger; else None.
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
        ours: The text of one.
        theirs: The text of the other.
        rel_tol: Floats that are no further apart than this share of the larger count as equal.
    """
    try:
        return list(_value_differences(_parse(ours), _parse(theirs), "", rel_tol))
    except RecursionError:
        return [] if ours == theirs else [Difference("", TOO_DEEP)]


def shorten(text: str) -> str:
    """Return the start of a text, as much as is good to look at."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _parse(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=_Object, parse_int=_integer)


def _integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:  # Python takes no more than some thousand digits
        return float(text)


def _value_differences(ours: Any, theirs: Any, member: str, rel_tol: float) -> Iterator[Difference]:
    if isinstance(ours, _Object) and isinstance(theirs, _Object):
        yield from _member_differences(ours, theirs, member, rel_tol)
    elif type(ours) is list and type(theirs) is list:
        if len(ours) != len(theirs):
            yield Difference(member, LENGTH, _text(ours), _text(theirs))
        for one, other in zip(ours, theirs, strict=False):
            yield from _value_differences(one, other, f"{member}[]", rel_tol)
    elif (kind := _kind_of_difference(ours, theirs, rel_tol)) is not None:
        yield Difference(member, kind, _text(ours), _text(theirs), _relative(ours, theirs))


def _member_differences(ours: _Object, theirs: _Object, member: str, rel_tol: float) -> Iterator[Difference]:
    names, others = [name for name, _ in ours], [name for name, _ in theirs]
    values, wanted = dict(ours), dict(theirs)  # of duplicates, the last counts
    for name in dict.fromkeys([*names, *others]):
        path = f"{member}.{name}" if member else name
        if name not in values:
            yield Difference(path, ONLY_THEIRS, theirs=_text(wanted[name]))
        elif name not in wanted:
            yield Difference(path, ONLY_OURS, ours=_text(values[name]))
        else:
            if names.count(name) != others.count(name):
                yield Difference(path, DUPLICATES, str(names.count(name)), str(others.count(name)))
            yield from _value_differences(values[name], wanted[name], path, rel_tol)
    if [name for name in values if name in wanted] != [name for name in wanted if name in values]:
        yield Difference(member, ORDER, shorten(", ".join(names)), shorten(", ".join(others)))


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
    except OverflowError:  # an integer beyond what floats hold
        return None


def _text(value: Any) -> str:
    return shorten(json.dumps(_plain(value), ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, _Object):
        return {name: _plain(of) for name, of in value}
    return [_plain(of) for of in value] if isinstance(value, list) else value


_EXAMPLES = 3
_SPACES = b" \t\r"
_KEPT, _DROPPED = "kept", "dropped"


@dataclass(frozen=True, slots=True)
class Example:
    """Where a difference shows: a line's number, from 1 on, and what each of the two gives, as JSON."""

    line: int
    expressions: str
    function: str


@dataclass(frozen=True, slots=True)
class Found:
    """A kind of difference.

    Attributes:
        member: Where: a member's name, `a.b` for one within another, `a[]` for the elements of a list; nothing for
            the whole line.
        kind: What differs.
        lines: In how many lines.
        examples: The first of them.
        relative: Of numbers, how far they are apart at most, as a share of the larger; else None.
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
        lines: How many lines were compared; blank ones are not.
        equal: For how many of them both give the same, be it that both drop or reject them.
        whole: Whether that was the whole input.
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

        The columns are `member`, `kind`, `lines` (how many differ so), `line` (the example's number), `expressions`
        and `function`.
        """
        rows = [
            (found.member, found.kind, found.lines, example.line, example.expressions, example.function)
            for found in self.found
            for example in found.examples
        ]
        names = ("member", "kind", "lines", "line", "expressions", "function")
        types = (pl.String, pl.String, pl.Int64, pl.Int64, pl.String, pl.String)
        return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")

    def __repr__(self) -> str:
        lines = [f"Comparison with {self.function}(…): {self._told()}"]
        for found in self.found:
            lines.append(f"  {found.member or '(the line)'}: {_kind(found)}, in {found.lines:,} lines")
            lines += [
                f"    line {example.line:,}: {example.expressions or 'nothing'} by the expressions, "
                f"{example.function or 'nothing'} by {self.function}(…)"
                for example in found.examples
            ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows: list[tuple[html.Cell, ...]] = []
        for found in self.found:
            for number, example in enumerate(found.examples):
                start = (found.member or "(the line)", _kind(found), found.lines) if not number else ("", "", "")
                rows.append((*start, example.line, html.Code(example.expressions), html.Code(example.function)))
        header = ("member", "differs by", "lines", "as line", "the expressions give", f"{self.function}(…) gives")
        told = self._told() if self.same else html.Bad(self._told())
        return html.render(f"Comparison with {self.function}(…)", told, html.Table(rows, header))

    def _told(self) -> str:
        which = f"all {self.lines:,} lines" if self.whole else f"the first {self.lines:,} lines"
        if self.same:
            return f"the same for {which} of {self.source}"
        return f"{self.lines - self.equal:,} of {which} of {self.source} differ"


def compare(
    spec: ExpressionSpec,
    function: Callable[[dict[str, object]], object],
    source: Source,
    lines: int | None,
    rel_tol: float,
) -> Comparison:
    """Compare what the expressions and what a function make of the lines of an input; see `Calculation.compare`."""
    return retry_widened(source, lambda state: _compare(spec, FunctionPlan(function), source, lines, rel_tol, state))


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the expressions make of a line: its text, None if they drop it, and why if they reject it."""

    number: int
    line: bytes
    text: bytes | None = None
    reason: str | None = None


def _compare(
    spec: ExpressionSpec, function: FunctionPlan, source: Source, lines: int | None, rel_tol: float, state: State
) -> Comparison:
    count, equal = 0, 0
    tally: dict[tuple[str, str], Found] = {}
    with open_source(source) as reader:
        plan, chunks = spec.prepare(read_chunks(reader.read_into), MAX_LINE_BYTES, state.widened)
        looked_at = FirstLines(chunks, lines)
        for outcome in _outcomes(plan, looked_at):
            found = _differ(outcome, function, rel_tol)
            count, equal = count + 1, equal + (not found)
            for difference in {(one.member, one.kind): one for one in reversed(found)}.values():
                _add(tally, difference, outcome.number)
    name = str(getattr(function.function, "__name__", "the function"))
    most_first = sorted(tally.values(), key=lambda one: -one.lines)
    return Comparison(reader.name, name, count, equal, looked_at.whole, tuple(most_first))


def _outcomes(plan: ExpressionPlan, chunks: Iterable[Chunk | LongLine]) -> Iterator[_Outcome]:
    """Yield what the expressions make of each line that is not blank, nor too long to be looked at."""
    before = 0
    for chunk in chunks:
        if isinstance(chunk, LongLine):
            before += 1
            continue
        evaluated = plan.evaluate(chunk)
        result = plan.splice(evaluated)
        texts = dict(zip(evaluated.kept_lines.tolist(), b"".join(result.output).split(b"\n"), strict=False))
        reasons = {reject.line: reject.reason for reject in result.rejects}
        for index, line in enumerate(bytes(chunk.data).split(b"\n")):
            if line.strip(_SPACES):
                yield _Outcome(before + index + 1, line, texts.get(index), reasons.get(index))
        before += result.lines


def _differ(outcome: _Outcome, function: FunctionPlan, rel_tol: float) -> list[Difference]:
    text, reason = None, None
    try:
        text = function.call(outcome.line)
    except LineError as error:
        reason = str(error)
    if outcome.text is not None and text is not None:
        return differences(outcome.text, text, rel_tol)
    ours, theirs = _told(outcome.text, outcome.reason), _told(text, reason)
    if (ours, theirs) == (_DROPPED, _DROPPED) or (outcome.reason is not None and reason is not None):
        return []
    kind = REJECTED if reason is not None or outcome.reason is not None else DROPPED
    return [Difference("", kind, shorten(ours), shorten(theirs))]


def _told(text: bytes | None, reason: str | None) -> str:
    return reason if reason is not None else _DROPPED if text is None else _KEPT


def _add(tally: dict[tuple[str, str], Found], difference: Difference, line: int) -> None:
    key = difference.member, difference.kind
    found = tally.get(key) or Found(*key, 0, ())
    examples = found.examples
    if len(examples) < _EXAMPLES:
        examples = (*examples, Example(line, difference.ours, difference.theirs))
    far = [apart for apart in (found.relative, difference.relative) if apart is not None]
    tally[key] = Found(*key, found.lines + 1, examples, max(far, default=None))


def _kind(found: Found) -> str:
    return f"{found.kind} (relatively by {found.relative:.1g} at most)" if found.relative else found.kind
