"""Results go into the original bytes of their lines, and members out of them, whatever the size of the chunk."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import reference
from tests.support.reference import BLANK, Spec
from tests.support.strategies import AWKWARD, lines
from transform.decode.schema import Column
from transform.engine.plan import ExpressionPlan
from transform.engine.projection import Projection
from transform.io.chunks import MAX_LINE_BYTES, Chunk

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK_BYTES = 256 << 10
OFFSET = 5_000
COLUMNS = {"stars": Column(pl.Float64()), "count": Column(pl.UInt64()), "open": Column(pl.Boolean())}
KINDS = {"stars": "float", "count": "UInt64", "open": "boolean"}
stars, count, is_open = pl.col("stars"), pl.col("count"), pl.col("open")
# name → the expression, and the same in Python
RESULTS: dict[str, tuple[pl.Expr, Callable[[dict[str, Any]], object]]] = {
    "count": (count + 1, lambda row: None if row["count"] is None else row["count"] + 1),
    "new": (pl.lit('é"\n'), lambda _: 'é"\n'),
    "open": (is_open.is_null(), lambda row: row["open"] is None),
    AWKWARD: (pl.lit(None), lambda _: None),
    "stars": (stars, lambda row: row["stars"]),
    "id": (pl.lit(7), lambda _: 7),
}
KEEPS: dict[str, tuple[list[pl.Expr], Callable[[dict[str, Any]], bool | None] | None]] = {
    "all": ([], None),
    "open": ([is_open], lambda row: row["open"]),
    "few stars": ([stars < 3, count >= 1], lambda row: _few_stars(row["stars"], row["count"])),
    "none": ([pl.lit(value=False)], lambda _: False),
}
NAMES = st.frozensets(st.sampled_from(["stars", "count", "open", AWKWARD, "id", "pad", "", "new", "名"]), max_size=4)
PROJECTIONS = st.builds(Projection, NAMES, st.none() | NAMES) | st.builds(Projection)
RESULT_NAMES = st.lists(st.sampled_from(list(RESULTS)), unique=True, max_size=4)


def _few_stars(stars: float | None, count: int | None) -> bool:
    return stars is not None and count is not None and stars < 3 and count >= 1


def split(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n")


def chunk(data: bytes) -> Chunk:
    return Chunk(memoryview(bytearray(data)), OFFSET)


def check(data: bytes, results: list[str], keep: str, projection: Projection) -> None:
    """Compare a chunk's output, rejects and counts with the reference."""
    predicates, keeps = KEEPS[keep]
    columns = COLUMNS if results or predicates else {}
    plan = ExpressionPlan(
        {name: RESULTS[name][0] for name in results}, predicates, columns, MAX_LINE_BYTES, projection=projection
    )
    piece = plan.transform(chunk(data))
    spec = Spec(
        KINDS if columns else {},
        tuple((name, RESULTS[name][1]) for name in results),
        keeps,
        drop=projection.drop,
        select=projection.select,
    )
    expected = reference.transform(data, spec)
    reference.match(expected, b"".join(piece.output))
    rejects = [(reject.offset, reject.line, reject.raw) for reject in piece.rejects]
    assert rejects == [(r.offset + OFFSET, r.line - 1, r.raw) for r in expected.rejects]
    counts = (piece.lines, piece.kept, piece.filtered, len(piece.rejects), piece.blank, piece.stop)
    assert counts == (
        *(expected.lines_in, expected.lines_out, expected.filtered, expected.rejected, expected.blank),
        OFFSET + len(data),
    )


def usual(body: bytes) -> bool:
    """Return whether a line may be an input's first for the reference, which takes an input, not a chunk."""
    return not body.startswith(reference.BOM) and not body.lstrip(BLANK).startswith(b"[")


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=150, deadline=None)
@given(
    bodies=st.lists(lines().filter(usual), min_size=1, max_size=8),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
    results=RESULT_NAMES,
    keep=st.sampled_from(list(KEEPS)),
    projection=PROJECTIONS,
)
def test_a_small_chunk_becomes_what_the_reference_says(
    bodies: list[bytes], end: bytes, last: bool, results: list[str], keep: str, projection: Projection
) -> None:
    check(end.join(bodies) + (end if last or not bodies[-1] else b""), results, keep, projection)


POOL = [
    *(b'{"stars":1,"count":5,"id":1}', b'{"id":2, "open":true , "stars":4.5, "count":0}', b"{}", b"{ }", b"", b" \t"),
    *(
        b'{"count":18446744073709551616,"id":3}',
        b'{"count":18446744073709551615,"open":false}',
        b'{"stars":"x","id":4}',
    ),
    *(
        b'{"st\\u0061rs":2,"count":3,"pad":"\\t\\"}{\\\\\\",:","id":5}',
        b'{"id":[1,{"id":2}],"open":null,"id":{"id":"id"}}',
    ),
    *(b'{"open":tru', b'nope"', b'{"a":"', b"}]", b'["', b'\xff"', b'{"pad":"\\\\","stars":0}', b'{"open":true,"":0}'),
    *('{"名":"名","open":true,"né\\"w\\n":[]}'.encode(), b'{"\\ud83d":1,"open":true,"id":"\\ude00"}'),
    *(b'  {"id":6,"open":true}  ', b'{"new" : 1 ,\t"open":true,"new":2,"stars":-1,"count":1\r}'),
]
sizes = st.sampled_from([20, 900, 30_000, 100_000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 9])


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from(range(len(POOL))), sizes), min_size=3, max_size=12),
    end=st.sampled_from([b"\n", b"\r\n"]),
    results=RESULT_NAMES,
    keep=st.sampled_from(list(KEEPS)),
    projection=PROJECTIONS,
)
def test_a_chunk_of_several_blocks_becomes_what_the_reference_says(
    parts: list[tuple[int, int]], end: bytes, results: list[str], keep: str, projection: Projection
) -> None:
    bodies = [b"{}"]
    for index, size in parts:
        # a line of just that size, which fills a block or ends beside its border
        bodies += [
            POOL[index],
            b'{"pad":"%b","id":0,"open":true,"stars":1,"count":1}' % (b"x" * (size - 53)),
            POOL[index - 1],
        ]
    check(end.join(bodies) + end, results, keep, projection)


@pytest.mark.parametrize(
    ("end", "results", "keep", "projection"),
    [
        (b"\n", [], "open", Projection(frozenset({"id"}))),
        (b"\r\n", [], "few stars", Projection(select=frozenset({"id", "pad"}))),
        (b"\n", ["count", "new"], "open", Projection(frozenset({"stars"}))),
        (b"\n", ["stars", "id"], "few stars", Projection(frozenset({"new"}), frozenset({"id", "stars", "open"}))),
        (b"\r\n", ["count", "open", AWKWARD], "all", Projection()),
    ],
    ids=["drop", "select", "drop and replace", "drop, select and replace", "replace"],
)
def test_thousands_of_lines_become_what_the_reference_says(
    end: bytes, results: list[str], keep: str, projection: Projection
) -> None:
    choice = random.Random(1)
    pads = [b'{"pad":"%b","stars":2,"count":1,"open":true}' % (b"x" * size) for size in range(0, 600, 9)]
    bodies = [choice.choice(pool) for _ in range(2_500) for pool in (POOL, pads)]
    data = b"{}" + end + end.join(bodies) + end
    assert len(data) > 3 * BLOCK_BYTES
    check(data, results, keep, projection)


@pytest.mark.parametrize("body", [b"{a:1}", b":", b",", b"}", b'"', b'{"a', b'{"b":"\\', b"\\", b'{"a":', b"{:}"])
def test_lines_that_are_not_valid_are_no_trouble_on_their_own_or_at_the_end(body: bytes) -> None:
    for data in (b" " + body, b'{"a":1}\n' + body, body + b'\n{"b":2}'):
        check(data, [], "all", Projection(frozenset({"a"})))


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "b", "c", "a ", "\\u0061"]), max_size=5), min_size=1, max_size=4),
    gaps=st.sampled_from([("", ""), (" ", ""), ("", "\t "), (" \r", " ")]),
    drop=st.frozensets(st.sampled_from("abc")),
    select=st.none() | st.frozensets(st.sampled_from("abc")),
    pad=st.integers(0, 70),
)
def test_cuts_leave_the_members_that_stay_with_their_separators(
    texts: list[list[str]], gaps: tuple[str, str], drop: frozenset[str], select: frozenset[str] | None, pad: int
) -> None:
    before, after = gaps
    value = " " * pad + '["'  # so that any byte is at the border of a block
    data = "\n".join(
        "{" + ("," + after).join(f'{before}"{name}":{value}{n}"]{before}' for n, name in enumerate(names)) + after + "}"
        for names in texts
    ).encode()
    for results in ([], ["id"]):
        check(data, results, "all", Projection(drop, select))


def test_names_are_told_apart_by_their_text_however_it_is_escaped() -> None:
    spellings = {'"id"': "id", '"i\\u0064"': "id", '"\\u0069\\u0064"': "id", '"i\\\\u0064"': "i\\u0064", '"ie"': "ie"}
    spellings |= {'"Id"': "Id", '"i"': "i", '"idd"': "idd", '"\\ud83d"': "no name", '"d\\\\"': "d\\", '"\\""': '"'}
    lines = [f'{{{name}:"id"}}' for name in spellings]
    for wanted in (["id"], ["d\\", "i"], ['"'], ["idd", "Id", "nowhere"], [], [""], ["i\\u0064", '\\"']):
        plan = ExpressionPlan({}, [], {}, MAX_LINE_BYTES, projection=Projection(select=frozenset(wanted)))
        output = b"".join(plan.transform(chunk("\n".join(lines).encode())).output).decode().split("\n")
        expected = [line if name in wanted else "{}" for line, name in zip(lines, spellings.values(), strict=True)]
        assert output == expected


def test_lines_that_fail_are_among_the_rejects_in_their_order() -> None:
    texts = ["1", "nope", "x", "2", "y", '{"n":1}', "3", "z"]
    bodies = [text if text[0] in "n{" else f'{{"n":"{text}"}}' for text in texts]
    plan = ExpressionPlan({"r": pl.col("n").cast(pl.Int64)}, [], {"n": Column(pl.String())}, MAX_LINE_BYTES)
    piece = plan.transform(chunk("\n".join(bodies).encode()))
    assert b"".join(piece.output) == b'{"n":"1","r":1}\n{"n":"2","r":2}\n{"n":"3","r":3}\n'
    assert [reject.line for reject in piece.rejects] == [1, 2, 4, 5, 7]
    assert [reject.raw.decode() for reject in piece.rejects] == [bodies[line] for line in (1, 2, 4, 5, 7)]
    starts = [OFFSET + sum(len(body) + 1 for body in bodies[:line]) for line in (1, 2, 4, 5, 7)]
    assert [reject.offset for reject in piece.rejects] == starts


def test_nothing_to_do_leaves_the_chunk_as_it_is() -> None:
    data = b'{"a":1}\n{"b":2}\n {} \r\n{"c" : "\\u0041" , "c":1.50}'
    assert b"".join(ExpressionPlan({}, [], {}, MAX_LINE_BYTES).transform(chunk(data)).output) == data
