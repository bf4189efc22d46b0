"""Results go into the original bytes of their lines, and members out of them, whatever the size of the chunk."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support import reference
from tests.support.reference import BLANK, STRING, NotJson, Spec
from tests.support.strategies import AWKWARD, lines
from transform.decode.decoder import Decoder
from transform.decode.line_index import (
    MemberTable,
    index_lines,
    long_lines,
    match_names,
    scan_long,
    scan_members,
)
from transform.decode.schema import Column
from transform.engine.plan import ExpressionPlan
from transform.engine.projection import Projection
from transform.engine.splice import Edits, plan_cuts, plan_edits, splice
from transform.expressions.evaluate import Evaluator
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


@settings(max_examples=30, deadline=None)
@given(
    gaps=st.lists(st.integers(-9, 9), min_size=1, max_size=4),
    short=st.lists(st.integers(8, 40), max_size=5),
    ended=st.booleans(),
)
def test_lines_are_found_wherever_they_end_in_a_large_chunk(gaps: list[int], short: list[int], ended: bool) -> None:
    ends = [number * BLOCK_BYTES + gap for number, gap in enumerate(gaps, 1)]
    ends += (np.cumsum(short) + ends[-1] + 20).tolist()
    data = bytearray(b"{" + b"x" * ends[-1])
    for end in ends:
        data[end - 1 : end + 2] = b"}\n{"
    data = data[: ends[-1] + 1] if ended else data[: ends[-1] + 1] + b"{}"
    layout = index_lines(Chunk(memoryview(data), 0))
    stops = ends if ended else [*ends, len(data)]
    assert layout.stops.tolist() == layout.lasts.tolist() == stops
    assert layout.bounds.tolist() == [0, *(end + 1 for end in ends), *([] if ended else [len(data)])]
    assert layout.braced
    assert layout.line(len(stops) - 1) == bytes(data)[layout.bounds[-2] : stops[-1]]


STRINGS = re.compile(STRING)


def members_of(data: bytes) -> dict[int, list[tuple[int, int, int]]]:
    """Return by line that is an object where its members' names open and close, and where their values end."""
    found, start = {}, 0
    for index, line in enumerate(split(data)):
        with suppress(NotJson, UnicodeDecodeError):
            line.decode()
            document = reference.scan(line)
            if document.is_object:
                found[index] = [
                    (start + m.key, start + closing_quote(line, m.key), start + m.end) for m in document.members
                ]
        start += len(line) + 1
    return found


def closing_quote(line: bytes, opening: int) -> int:
    found = STRINGS.match(line, opening)
    assert found
    return found.end() - 1


def places_of_members(data: bytes, block_bytes: int) -> dict[int, list[tuple[int, int, int]]]:
    line_index = index_lines(chunk(data))
    tables = [scan_members(line_index, block_bytes)]
    assert (np.diff(tables[0].lines) >= 0).all()
    for line in long_lines(line_index, block_bytes):
        tables += scan_long(line_index, line, block_bytes)
    table = MemberTable.join(tables)
    found: dict[int, list[tuple[int, int, int]]] = {}
    for line, *places in zip(*(x.tolist() for x in (table.lines, table.starts, table.names, table.stops)), strict=True):
        found.setdefault(line, []).append((places[0], places[1], places[2]))
    escapes = [b"\\" in data[start:stop] for start, stop in zip(table.starts, table.names, strict=True)]
    valid = np.isin(table.lines, list(members_of(data)))
    assert (table.escaped == escapes)[valid].all()
    return found


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=250, deadline=None)
@given(
    bodies=st.lists(lines() | st.sampled_from(POOL), min_size=1, max_size=9),
    pad=st.sampled_from([0, 0, 0, 90_000]),
    block_bytes=st.integers(1, 30) | st.just(BLOCK_BYTES),
)
@example([b'{"a":"', b'{"a":1}', b"]]", b'{"b":2}', b'"\\', b'{"c":"\\\\"}', b"{{", b'{"d":[]}'], 0, BLOCK_BYTES)
@example([b'{"a":"\\n\\",\\t\\\\","b":"\\\\\\"\\/\\",:"}'], 0, BLOCK_BYTES)
@example([b'{"a":"\\n\\",\\t\\\\","b":"\\\\\\"\\/\\",:"}'], 0, 1)
@example([b'{"a":1}\\', b'{"b":[1,{"c":2}]}', b"}", b'{"d":{"e":{}},"f":"\\\\\\""}'], 300_000, BLOCK_BYTES)
def test_members_of_valid_lines_are_found_whatever_is_beside_them(
    bodies: list[bytes], pad: int, block_bytes: int
) -> None:
    if pad and block_bytes < 30:
        block_bytes *= 1000
    filler = [b'{"pad":"%b","z":[{}]}' % (b"x" * pad)] if pad else []
    data = b"\n".join(line for body in bodies for line in (body, *filler)) + b"\n"
    found = places_of_members(data, block_bytes)
    for line, expected in members_of(data).items():
        assert found.get(line, []) == expected


@pytest.mark.parametrize("body", [b"{a:1}", b":", b",", b"}", b'"', b'{"a', b'{"b":"\\', b"\\", b'{"a":', b"{:}"])
def test_lines_that_are_not_valid_are_no_trouble_on_their_own_or_at_the_end(body: bytes) -> None:
    for data in (b" " + body, b'{"a":1}\n' + body, body + b'\n{"b":2}'):
        check(data, [], "all", Projection(frozenset({"a"})))


def test_names_are_told_apart_by_their_text_however_it_is_escaped() -> None:
    spellings = {'"id"': "id", '"i\\u0064"': "id", '"\\u0069\\u0064"': "id", '"i\\\\u0064"': "i\\u0064", '"ie"': "ie"}
    spellings |= {'"Id"': "Id", '"i"': "i", '"idd"': "idd", '"\\ud83d"': "no name", '"d\\\\"': "d\\", '"\\""': '"'}
    layout = index_lines(chunk("\n".join(f'{{{name}:"id"}}' for name in spellings).encode()))
    members = scan_members(layout)
    for wanted in (["id"], ["d\\", "i"], ['"'], ["idd", "Id", "nowhere"], [], ["\ud83d"], [""], ["i\\u0064", '\\"']):
        expected = [wanted.index(name) if name in wanted else -1 for name in spellings.values()]
        assert match_names(layout, members, wanted).tolist() == expected


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "b", "c", "a ", "\\u0061"]), max_size=5), min_size=1, max_size=4),
    gaps=st.sampled_from([("", ""), (" ", ""), ("", "\t "), (" \r", " ")]),
    drop=st.frozensets(st.sampled_from("abc")),
    select=st.none() | st.frozensets(st.sampled_from("abc")),
    block_bytes=st.integers(1, 40) | st.just(BLOCK_BYTES),
)
def test_cuts_leave_the_members_that_stay_with_their_separators(
    texts: list[list[str]],
    gaps: tuple[str, str],
    drop: frozenset[str],
    select: frozenset[str] | None,
    block_bytes: int,
) -> None:
    before, after = gaps
    data = "\n".join(
        "{" + ("," + after).join(f'{before}"{name}":[{n}]{before}' for n, name in enumerate(names)) + after + "}"
        for names in texts
    ).encode()
    cuts = plan_cuts(index_lines(chunk(data)), Projection(drop, select), block_bytes)
    starts = np.concatenate([cuts.starts, *(gaps.starts for gaps in cuts.long.values())])
    stops = np.concatenate([cuts.stops, *(gaps.stops for gaps in cuts.long.values())])
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], stops[order]
    assert (starts <= stops).all()
    assert (stops[:-1] <= starts[1:]).all()
    kept = b"".join(data[a:b] for a, b in zip([0, *stops], [*starts, len(data)], strict=True))
    reference.match(reference.transform(data, Spec({}, drop=drop, select=select)), kept)
    stays = [
        [name for name in names if Spec({}, drop=drop, select=select).stays(name.replace("\\u0061", "a"))]
        for names in texts
    ]
    assert cuts.emptied.tolist() == [bool(names) and not left for names, left in zip(texts, stays, strict=True)]


# Each edit: how many bytes stay before it, how many go, and what is put there.
EDITS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.binary(max_size=3), st.binary(max_size=2)), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(edits=EDITS, only_inserts=st.booleans(), rest=st.binary(max_size=3))
@example(edits=[(0, 2, b"", b"")], only_inserts=False, rest=b"")  # nothing is left
def test_splice_makes_each_edit_and_leaves_the_rest(
    edits: list[tuple[int, int, bytes, bytes]], only_inserts: bool, rest: bytes
) -> None:
    data, expected = b"", b""
    starts, stops = [], []
    for number, (stay, go, one, other) in enumerate(edits):
        kept = bytes([65 + number]) * stay
        starts.append(len(data) + stay)
        data += kept + b"-" * (0 if only_inserts else go)
        stops.append(len(data))
        expected += kept + one + b"|" + other
    texts: list[Any] = [
        pa.array([one for _, _, one, _ in edits], pa.large_binary()),
        pa.scalar(b"|", pa.large_binary()),
        pa.array([other for *_, other in edits], pa.large_binary()),
    ]
    view = memoryview(bytearray(data + rest))
    pieces = splice(view, Edits(np.array(starts, np.int64), np.array(stops, np.int64), texts))
    assert b"".join(pieces) == expected + rest
    nothing = [pa.array([b""] * len(edits), pa.large_binary())]
    cut_out = splice(view, Edits(np.array(starts, np.int64), np.array(stops, np.int64), nothing))
    assert b"".join(cut_out) == data.replace(b"-", b"") + rest


def test_edits_are_in_order_and_do_not_overlap() -> None:
    data = b'{"a":1,"b":2}\n\n{"b":3}\n{}\nnope\n{"a":5}\n{"x":{},"a":4,"x":0}\n'
    decoder = Decoder({"a": Column(pl.Int64())}, ["b", "c"])
    evaluator = Evaluator({"b": pl.col("a") * 2, "c": pl.lit(0)}, [pl.col("a") != 5], {"a": pl.Int128()})
    decoded = decoder.decode(chunk(data))
    evaluated = evaluator.evaluate(decoded.frame)
    edits = plan_edits(decoded, evaluated, plan_cuts(decoded.line_index, Projection(frozenset({"x"}))))
    assert (edits.starts <= edits.stops).all()
    assert (edits.stops[:-1] <= edits.starts[1:]).all()
    assert b"".join(splice(memoryview(data), edits)) == b'{"a":1,"b":2,"c":0}\n{"a":4,"b":8,"c":0}\n'


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
    data = b'{"a":1}\n{"b":2}\n'
    decoded = Decoder({}).decode(chunk(data))
    edits = plan_edits(decoded, Evaluator({}, [], {}).evaluate(decoded.frame))
    assert len(edits.starts) == 0
    view = memoryview(data)
    assert [piece.obj for piece in splice(view, edits)] == [data]
