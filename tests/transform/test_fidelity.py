"""Whatever the input: what comes out is what the reference says, and the same bytes however the input is cut."""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import reference
from tests.support.reference import JsonArray, Spec, Unchanged
from tests.support.strategies import AWKWARD, SMALL_LIMIT_BYTES, inputs
from tests.support.typed import typed
from tests.transform.test_reference import REJECTED
from transform import Calculation, Summary, TransformError
from transform.decode.schema import Json
from transform.io.chunks import read_chunks
from transform.io.ranges import cut, read_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.reference import Expected, Reject

TYPES = {
    "float": pl.Float64(),
    "integer": pl.Int128(),
    "Int64": pl.Int64(),
    "UInt8": pl.UInt8(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "json": Json(),
}
REASONS = {
    "too long": "longer than",
    "utf8": "not valid UTF-8",
    "depth": "nested deeper than",
    "json": "not valid JSON",
    "object": "not a JSON object",
}
COUNTS = ("lines_in", "lines_out", "filtered", "rejected", "blank")
MOST_RANGES = 300  # of a large input, small ranges take long and show nothing new
RAW_BYTES = 64 << 10  # of a line that is too long, so much is kept
CHUNK_BYTES = (1, 2, 7, 64, 4096, 2 << 20)
LINE_LIMITS_BYTES = (SMALL_LIMIT_BYTES, 16 << 10, 1 << 20)


@dataclass(frozen=True)
class Case:
    """A calculation, written once in polars and once in Python."""

    spec: Spec
    calculation: Calculation


@dataclass(frozen=True)
class Outcome:
    """What a run left behind. `counts` is None where it failed."""

    output: bytes | None
    rejects: bytes | None
    counts: dict[str, int] | None
    nonfinite: dict[str, int] | None
    others: tuple[str, ...]


def case(
    columns: dict[str, str],
    results: dict[str, tuple[pl.Expr, Callable[[dict[str, Any]], object] | Unchanged]],
    keep: tuple[pl.Expr, Callable[[dict[str, Any]], bool | None]] | None = None,
) -> Case:
    expressions = [expression.alias(name) for name, (expression, _) in results.items()]
    calculation = Calculation(*expressions).with_schema({name: TYPES[kind] for name, kind in columns.items()})
    if keep is not None:
        calculation = calculation.filter(keep[0])
    functions = tuple((name, function) for name, (_, function) in results.items())
    return Case(Spec(columns, functions, None if keep is None else keep[1]), calculation)


def ruled(case: Case, *rules: tuple[pl.Expr, Callable[[dict[str, Any]], object], str]) -> Case:
    calculation = case.calculation
    for predicate, _, reason in rules:
        calculation = calculation.reject(predicate, reason)
    return Case(replace(case.spec, rules=tuple((broken, reason) for _, broken, reason in rules)), calculation)


def strict(function: Callable[..., Any], *names: str) -> Callable[[dict[str, Any]], Any]:
    """Null where any of the columns is null, as nearly all of polars has it."""

    def apply(row: dict[str, Any]) -> object:
        values = [row[name] for name in names]
        return None if None in values else function(*values)

    return apply


def divided(dividend: float, divisor: int) -> float:
    """Divide as IEEE does."""
    if divisor:
        return dividend / divisor
    return math.nan if dividend == 0 else math.copysign(math.inf, dividend)


def copied(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda row: row[name]


SPECIAL = 'say "no" \\ / \x00\x08\t\r\n\x1f\x7f\x85\u2028 é 名 \U0001f600 \ufeff\uffff'
stars, count, name, is_open, awkward = (pl.col(column) for column in ("stars", "count", "name", "open", AWKWARD))
CASES = {
    "floats": case(
        {"stars": "float", "count": "integer"},
        {
            "score": (stars * count, strict(lambda a, b: a * float(b), "stars", "count")),
            "ratio": (stars / count, strict(divided, "stars", "count")),
        },
    ),
    "exact integers": case(
        {"count": "Int64"},
        {
            "square": (count * count, strict(lambda a: a * a, "count")),
            "id": (count - 1, strict(lambda a: a - 1, "count")),
        },
    ),
    "strings": case(
        {"name": "string", "open": "boolean"},
        {
            "shout": (name + "!", strict(lambda a: a + "!", "name")),
            "special": (
                pl.when(is_open).then(pl.lit(SPECIAL)).otherwise(name),
                lambda row: SPECIAL if row["open"] else row["name"],
            ),
            "nameless": (name.is_null(), lambda row: row["name"] is None),
        },
    ),
    "filter": case(
        {"stars": "float", "count": "integer"},
        {"copy": (count, Unchanged(("count",)))},
        keep=(stars >= 3, strict(lambda a: a >= 3, "stars")),
    ),
    "filter alone": case({"open": "boolean"}, {}, keep=(is_open, lambda row: row["open"])),
    "rules": ruled(
        case(
            {"stars": "float", "count": "integer", "name": "string"},
            {"score": (stars * count, strict(lambda a, b: a * float(b), "stars", "count"))},
            keep=(stars >= 3, strict(lambda a: a >= 3, "stars")),
        ),
        (stars < 0, strict(lambda a: a < 0, "stars"), "negative stars"),
        (name.is_null(), lambda row: row["name"] is None, 'no "name", \\ é 名'),
        (count > 4, strict(lambda a: a > 4, "count"), "negative stars"),
    ),
    "rules alone": ruled(case({"open": "boolean"}, {}), (~is_open, strict(lambda a: not a, "open"), "closed")),
    "read and replaced": case(
        {"stars": "float", "name": "string"},
        {
            "stars": (stars * 2, strict(lambda a: a * 2, "stars")),
            "new": (stars > 3, strict(lambda a: a > 3, "stars")),
            "name": (name, Unchanged(("name",))),
        },
    ),
    "replaced by each other": case(
        {"count": "integer", "name": "string", "open": "boolean"},
        {
            "name": (count, Unchanged(("count",))),
            "open": (name, Unchanged(("name",))),
            "count": (~is_open, strict(lambda a: not a, "open")),
            "stars": (is_open, Unchanged(("open",))),
        },
    ),
    "all columns": case(
        {"stars": "float", "count": "integer", "name": "string", "open": "boolean"},
        {
            # False and null is false.
            "nameless": (name.is_null() & is_open, lambda row: row["open"] if row["name"] is None else False),
            "count": (stars, Unchanged(("stars",))),
            "copy": (count, Unchanged(("count",))),
            **{f"typed {column}": (typed(column), copied(column)) for column in ("stars", "count", "name", "open")},
        },
    ),
    "texts of any kind": case(
        {"nested": "json", "stars": "json", AWKWARD: "json", "count": "integer"},
        {
            **{column: (typed(column), copied(column)) for column in ("nested", "stars", AWKWARD)},
            "less": (count - 1, strict(lambda a: a - 1, "count")),
        },
        keep=(stars.fill_null("") != "1", lambda row: row["stars"] != "1"),
    ),
    "awkward name": case(
        {"count": "UInt8", AWKWARD: "string"},
        {
            AWKWARD: (count + 1, strict(lambda a: a + 1, "count")),
            "nested": (awkward, Unchanged((AWKWARD,))),
        },
    ),
    "unusual names": case(
        {"count": "integer"},
        {
            name: (count, Unchanged(("count",)))
            for name in ("", "名", "😀", "x.y", "a/b", "$", "stars ", "line", "__class__")
        },
    ),
}


def run(data: bytes, calculation: Calculation, **options: Any) -> Outcome:
    with tempfile.TemporaryDirectory() as directory:
        source, target, rejects = (Path(directory, file) for file in ("in.jsonl", "out.jsonl", "rejects.jsonl"))
        source.write_bytes(data)
        counts = nonfinite = None
        try:
            summary = calculation.run(source, target, rejects=rejects, **options)
        except TransformError:
            pass
        else:
            counts = {count: getattr(summary, count) for count in COUNTS}
            nonfinite = summary.nonfinite
        return Outcome(
            target.read_bytes() if target.exists() else None,
            rejects.read_bytes() if rejects.exists() else None,
            counts,
            nonfinite,
            tuple(sorted(path.name for path in Path(directory).iterdir() if path not in {source, target, rejects})),
        )


def check(data: bytes, spec: Spec, outcome: Outcome) -> None:
    assert outcome.others == (), "nothing but the output and the rejects stays behind"
    try:
        expected = reference.transform(data, spec)
    except JsonArray:
        assert (outcome.counts, outcome.output) == (None, None)
        return
    check_rejects(expected, spec, outcome.rejects)
    if expected.rejected and not expected.lines_out and not expected.filtered:
        assert (outcome.counts, outcome.output) == (None, None), "all lines were rejected, so the run should fail"
        return
    assert outcome.counts is not None, "the run failed"
    assert outcome.counts == {field: getattr(expected, field) for field in outcome.counts}
    assert outcome.counts["lines_in"] == sum(outcome.counts.values()) - outcome.counts["lines_in"]
    assert outcome.nonfinite == expected.nonfinite
    assert outcome.output is not None
    reference.match(expected, outcome.output)


def check_rejects(expected: Expected, spec: Spec, written: bytes | None) -> None:
    if not expected.rejects:
        assert written is None
        return
    assert written is not None, expected.rejects
    assert written.endswith(b"\n")
    records = [json.loads(line.decode()) for line in written.removesuffix(b"\n").split(b"\n")]
    found = [(record["offset"], record["line"]) for record in records]
    assert found == [(reject.offset, reject.line) for reject in expected.rejects]
    for record, reject in zip(records, expected.rejects, strict=True):
        check_reason(record["reason"], reject, spec)
        check_raw(record, reject)


def check_reason(reason: str, reject: Reject, spec: Spec) -> None:
    if reject.kind in dict(spec.rules).values():
        assert reason == reject.kind
        return
    if reject.kind in REASONS:
        assert reason.startswith(REASONS[reject.kind]), (reject, reason)
        return
    faults = reference.faults(reject.raw, reference.parse(reject.raw, spec), spec.columns)
    assert any(reason.startswith(f"column `{name}`: ") for name in faults), (reject, reason)


def check_raw(record: dict[str, Any], reject: Reject) -> None:
    kept, length = reject.raw, set[str]()
    if reject.kind == "too long" and len(reject.raw) > RAW_BYTES:
        kept, length = reject.raw[:RAW_BYTES], {"truncated", "length"}
        assert record["truncated"] is True
        assert record["length"] == len(reject.raw)
    try:
        key, raw = "raw", kept.decode()
    except UnicodeDecodeError:
        key, raw = "raw_base64", base64.b64encode(kept).decode()
    assert record.keys() == {"offset", "line", "reason", key} | length
    assert record[key] == raw


@dataclass(frozen=True)
class Bytes:
    """Bytes that can be read from anywhere."""

    data: bytes

    def read_at(self, view: memoryview, offset: int) -> int:
        found = self.data[offset : offset + len(view)]
        view[: len(found)] = found
        return len(found)

    def prefetch(self, offset: int) -> None:
        pass


def run_by_ranges(data: bytes, calculation: Calculation, range_bytes: int, max_line_bytes: int) -> Outcome:
    """Do what `run` does, but each range for itself, the last one first."""
    try:
        chunks = read_chunks(io.BytesIO(data).readinto, 4096, max_line_bytes)
        plan, _ = calculation.spec_for("").prepare(chunks, max_line_bytes, {})
        parts = [
            [replace(piece, output=(memoryview(b"".join(piece.output)),)) for piece in map(plan.transform, chunks)]
            for part in reversed(list(cut(0, len(data), lambda: range_bytes)))
            for chunks in [read_range(Bytes(data), part, 64, max_line_bytes)]
        ]
    except TransformError:
        return Outcome(None, None, None, None, ())
    summary, output, rejects = Summary(), b"", b""
    for piece in itertools.chain.from_iterable(reversed(parts)):
        output += b"".join(piece.output)
        rejects += b"".join(piece.rejects.to_json_blocks(summary.lines_in + 1))
        summary.count(piece)
    if summary.rejected and not summary.lines_out and not summary.filtered:
        return Outcome(None, rejects, None, None, ())
    return Outcome(output, rejects or None, {count: getattr(summary, count) for count in COUNTS}, summary.nonfinite, ())


def projected(case: Case, drop: frozenset[str], select: frozenset[str] | None) -> Case:
    calculation = case.calculation.drop(*drop)
    return Case(
        replace(case.spec, drop=drop, select=select),
        calculation if select is None else calculation.select(*select),
    )


NAMES = st.frozensets(
    st.sampled_from(["stars", "count", "name", "open", AWKWARD, "id", "", "new", "nowhere"]), max_size=4
)
PROJECTIONS = st.tuples(st.just(frozenset[str]()), st.none()) | st.tuples(NAMES, st.none() | NAMES)


# Should a test fail on a long input, its failure is worth more than the warning that printing the input takes long.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=100, deadline=None)
@given(
    data=inputs(),
    projection=PROJECTIONS,
    max_line_bytes=st.sampled_from(LINE_LIMITS_BYTES),
    chunk_bytes=st.sampled_from(CHUNK_BYTES[3:]),
)
def test_output_and_rejects_are_what_the_reference_says(
    name: str,
    data: bytes,
    projection: tuple[frozenset[str], frozenset[str] | None],
    max_line_bytes: int,
    chunk_bytes: int,
) -> None:
    case = projected(CASES[name], *projection)
    outcome = run(data, case.calculation, max_line_bytes=max_line_bytes, chunk_bytes=chunk_bytes)
    check(data, replace(case.spec, max_line_bytes=max_line_bytes), outcome)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(list(CASES)),
    data=inputs(),
    projection=PROJECTIONS,
    max_line_bytes=st.sampled_from(LINE_LIMITS_BYTES),
    chunk_bytes=st.sampled_from(CHUNK_BYTES),
    range_bytes=st.sampled_from(CHUNK_BYTES) | st.integers(1, 200),
)
def test_the_same_bytes_however_the_input_is_cut(
    name: str,
    data: bytes,
    projection: tuple[frozenset[str], frozenset[str] | None],
    max_line_bytes: int,
    chunk_bytes: int,
    range_bytes: int,
) -> None:
    calculation = projected(CASES[name], *projection).calculation
    whole = run(data, calculation, max_line_bytes=max_line_bytes)
    assert run(data, calculation, max_line_bytes=max_line_bytes, chunk_bytes=chunk_bytes) == whole
    if len(data) // range_bytes < MOST_RANGES:
        assert run_by_ranges(data, calculation, range_bytes, max_line_bytes) == whole


@pytest.mark.parametrize("chunk_bytes", [64, 2 << 20])
@pytest.mark.parametrize(
    "line",
    [
        b"x" * (RAW_BYTES - 1),
        b"x" * RAW_BYTES,
        b"x" * (RAW_BYTES + 1),
        b"x" * (3 * RAW_BYTES),
        b"x" * (RAW_BYTES - 1) + "é".encode() * 9,  # the cut is inside a character
        b"\xff" + b"x" * RAW_BYTES,
        b"x" * RAW_BYTES + b"\xff",
        b" " * (RAW_BYTES + 9) + b"\r",
    ],
    ids=range(8),
)
def test_of_a_line_that_is_too_long_the_start_is_kept(line: bytes, chunk_bytes: int) -> None:
    data = b'{"stars":1,"count":2}\n' + line + b'\n{"stars":3}\n'
    case = CASES["floats"]
    outcome = run(data, case.calculation, max_line_bytes=SMALL_LIMIT_BYTES, chunk_bytes=chunk_bytes)
    check(data, replace(case.spec, max_line_bytes=SMALL_LIMIT_BYTES), outcome)


@pytest.mark.parametrize("drop", [{"a"}, {"["}, {"{,:]}"}, {"a", "["}, {"id"}])
def test_a_name_may_hold_the_marks_of_json(drop: set[str]) -> None:
    members = ['"[":1', '"a":[1,{"[":2}]', '"{,:]}":"[{"', '"id":{"a":1}', '"\\"[":3', '"]":4']
    data = b"".join(
        b"{%b}\n" % ", ".join(some).encode() for count in range(4) for some in itertools.permutations(members, count)
    )
    for select in (None, frozenset({"id", "["})):
        case = projected(Case(Spec({}), Calculation()), frozenset(drop), select)
        check(data, case.spec, run(data, case.calculation))


@pytest.mark.parametrize("chunk_bytes", [64, 4096, 2 << 20])
def test_all_that_is_wrong_with_lines(chunk_bytes: int) -> None:
    lines = [line for lines in REJECTED.values() for line in lines]
    data = b"{}\n" + b"\n".join(lines) + b"\n"
    case = CASES["all columns"]
    outcome = run(data, case.calculation, max_line_bytes=3000, chunk_bytes=chunk_bytes)
    assert outcome.counts is not None
    assert outcome.counts["rejected"] == len(lines)
    check(data, replace(case.spec, max_line_bytes=3000), outcome)


def test_a_rejected_line_within_the_limit_is_kept_whole() -> None:
    data = b"{}\n" + b"x" * (2 * RAW_BYTES) + b'\n{"stars":1}'
    check(data, CASES["floats"].spec, run(data, CASES["floats"].calculation))
