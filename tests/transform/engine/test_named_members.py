"""Names to drop or select that no line has are reported, however the input is cut, read, stopped and resumed."""

from __future__ import annotations

import difflib
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.example import lines as example_lines
from tests.support.stops import stopped, through_json, uninterrupted
from tests.support.trial import attempt, lines
from tests.support.tuned import Tuned
from transform import Calculation, State
from transform.decode.near_names import nearest
from transform.engine.named_members import NEAR_BYTES
from transform.explore.check import check
from transform.io.compression import CODECS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transform.runnable import Runnable

NAMES = ("email", "Email", "EMAIL", "phone", 'say "hi"', "a,b", "né", "😀", "x.y", "", "open", "back\\slash")
OTHER_NAMES = ("mail", "phones", "zzz", "ne", "say hi")
NO_ROWS = ("nope", "", " \r", '{"email":1', "5", '{"email":1,"open":"x"}', '"email"', '{"phone":01}')


def _escape_all(text: str) -> str:
    units = text.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)) + '"'


SPELLINGS = (json.dumps, lambda text: json.dumps(text, ensure_ascii=False), _escape_all)
members = st.tuples(
    st.sampled_from((*NAMES, *OTHER_NAMES)), st.sampled_from(SPELLINGS), st.sampled_from(["1", "null", '"email"', "{}"])
)
rows = st.builds(
    lambda found, is_open: (
        "{" + ",".join(f"{spell(name)}:{value}" for name, spell, value in found if name != "open") + f"{is_open}}}"
    ),
    st.lists(members, max_size=4),
    st.sampled_from([',"open":true', ',"open":true', ',"open":false', ',"open":null', ',"open":"x"', ""]),
).map(lambda line: line.replace("{,", "{"))
inputs = st.lists(rows | st.sampled_from(NO_ROWS), max_size=12).map(lambda lines: "\n".join(lines).encode())
names = st.frozensets(st.sampled_from(NAMES), max_size=4)


def kept_names(data: bytes) -> tuple[int, set[str]]:
    """Return how many lines are kept, and which names their members have, as Python's own parser reads them."""
    count, found = 0, set[str]()
    for line in data.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and value.get("open") is True:
            count += 1
            found |= value.keys()
    return count, found


def expected_absent(data: bytes, drop: frozenset[str], select: frozenset[str] | None) -> dict[str, str]:
    """Return the names that no line which is kept has, with what was to be done."""
    count, found = kept_names(data)
    listed = dict.fromkeys(select or (), "select") | dict.fromkeys(drop, "drop")
    return {name: verb for name, verb in sorted(listed.items()) if name not in found} if count else {}


def likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other.casefold(), name.casefold()).ratio()


def calculation_of(drop: frozenset[str], select: frozenset[str] | None) -> Calculation:
    calculation = Calculation.from_sql(where="open").with_schema({"open": "Boolean"}).drop(*drop)
    return calculation if select is None else calculation.select(*select)


def notes_of(calculation: Runnable, data: bytes, **options: Any) -> list[str]:
    with calculation.stream(io.BytesIO(data), **{"workers": 1, **options}) as stream:
        for part in stream:
            list(part.rejects)
    return stream.summary.notes


def note(name: str, verb: str = "drop", near: str = "") -> str:
    did_you_mean = f" Did you mean {near}?" if near else ""
    return f"no line that was kept has a member `{name}` to {verb}.{did_you_mean}"


@settings(max_examples=200, deadline=None)
@given(data=inputs, drop=names, select=st.none() | names, chunk_bytes=st.sampled_from([1, 30, 100, 1 << 20]))
@example(
    data=b'{"email":1,"open":true}\n{"EMAIL":1,"open":true}', drop=frozenset({"Email"}), select=None, chunk_bytes=1
)
@example(data=b'{"email":1}\n{"open":true}', drop=frozenset({"email"}), select=None, chunk_bytes=1)
@example(data=b'{"email":1,"open":"x"}\n{"open":true}', drop=frozenset({"email"}), select=None, chunk_bytes=1 << 20)
def test_notes_are_those_of_plain_python(
    data: bytes, drop: frozenset[str], select: frozenset[str] | None, chunk_bytes: int
) -> None:
    expected = expected_absent(data, drop, select)
    count, found = kept_names(data)
    if not count and data.strip():
        data += b'\n{"open":false}'  # an input whose lines are all rejected fails
    found_notes = notes_of(calculation_of(drop, select), data, chunk_bytes=chunk_bytes)
    notes = [text for text in found_notes if "`open`" not in text or "open" in expected]
    assert len(notes) == len(expected)
    for text, (name, verb) in zip(notes, expected.items(), strict=True):
        assert text.startswith(note(name, verb))
        near = sorted(((likeness(name, other), other) for other in found), reverse=True)[:3]
        told = [other for ratio, other in near if ratio >= 0.6]
        assert text == note(name, verb, " or ".join(f"`{other}`" for other in told))


@settings(max_examples=60, deadline=None)
@given(data=inputs, drop=names, stops=st.lists(st.integers(0, 5), min_size=1, max_size=3))
@example(data=b'{"email":1,"open":true}\n{"open":true}', drop=frozenset({"email", "Email"}), stops=[1])
def test_a_run_that_is_resumed_has_the_notes_of_one_that_was_not(
    data: bytes, drop: frozenset[str], stops: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "in.jsonl")
        source.write_bytes(data)
        calculation = calculation_of(drop, None)
        whole = uninterrupted(calculation, source, Path(directory), workers=1, chunk_bytes=1)
        assert stopped(calculation, source, stops, workers=1, chunk_bytes=1) == whole


@given(pools=st.lists(st.lists(st.text("abAB", max_size=4), max_size=6), max_size=4), name=st.text("abAB", max_size=4))
def test_the_nearest_of_all_are_the_nearest_among_the_nearest_of_each(pools: list[list[str]], name: str) -> None:
    together = nearest(name, [other for pool in pools for other in pool])
    merged: list[str] = []
    for pool in pools:
        merged = nearest(name, [*merged, *nearest(name, pool)])
    assert merged == together
    assert len(together) <= 3


@pytest.mark.parametrize(("workers", "packed"), [(2, True), (3, False)])
def test_any_number_of_workers_gives_the_same_notes(workers: int, packed: bool, tmp_path: Path) -> None:
    rare = b'{"a":1,"rare":1,"\\u0061bc":2}\n'
    content = example_lines(2000) + rare + example_lines(2000)
    (codec,) = (codec for codec in CODECS if codec.name == "gzip")
    compressor = codec.compressor()
    source = tmp_path / "in"
    source.write_bytes(compressor.compress(content) + compressor.flush() if packed else content)
    calculation = Calculation().drop("rare", "A", "abc", "Rare")
    summary = Tuned(calculation).run(source, tmp_path / "out", workers=workers, range_bytes=3000, chunk_bytes=1000)
    assert summary.notes == [note("A", near="`a`"), note("Rare", near="`rare`")]
    assert summary.lines_out == 4001


def test_near_names_are_those_of_lines_that_start_near_the_start() -> None:
    for start, near in ((NEAR_BYTES, "`email`"), (NEAR_BYTES + 1, "")):
        small = b'{"pad":"' + b"x" * 989 + b'"}\n'
        head = small * (start // len(small) - 1)
        head += b'{"pad":"' + b"x" * (start - len(head) - 11) + b'"}\n'
        data = head + b'{"email":1}\n{"other":1}\n'
        assert data.index(b'{"email"') == start
        for chunk_bytes in (1, 1000, 70_000, NEAR_BYTES - 1, 1 << 20):
            assert notes_of(Calculation().drop("Email"), data, chunk_bytes=chunk_bytes) == [note("Email", near=near)]


def test_near_names_are_those_of_the_first_members_of_a_line() -> None:
    for count, near in ((999, "`email`"), (1000, "")):
        many = ",".join(f'"{number}":0' for number in range(count))
        assert notes_of(Calculation().drop("Email"), f'{{"z":0}}\n{{{many},"email":1}}\n'.encode()) == [
            note("Email", near=near)
        ]
        many = ",".join(f'"{number}":0' for number in range(3000))
        assert notes_of(Calculation().drop("email"), f'{{{many},"email":1}}\n'.encode()) == [], "all are searched"


@pytest.mark.parametrize("data", [b"", b"\n \n", b'{"open":false}\n'])
def test_without_a_line_in_the_output_there_is_nothing_to_report(data: bytes) -> None:
    assert notes_of(calculation_of(frozenset({"email"}), None), data) == []


def test_a_result_that_is_selected_is_not_missed() -> None:
    data = b'{"a":1}\n'
    calculation = Calculation.from_sql("a + 1 AS b")
    assert notes_of(calculation.select("a", "b"), data) == []
    assert notes_of(calculation.drop("b"), data) == [note("b")]


def test_nothing_is_reported_of_a_run_begun_by_a_version_that_did_not_look(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"email":1}\n{"a":1}\n{"a":2}\n')
    calculation = Calculation().drop("email", "nowhere")
    with calculation.stream(source, workers=1, chunk_bytes=1) as stream:
        parts = iter(stream)
        for _ in range(2):
            next(parts)
        state = through_json(stream.state)
    assert state.summary.absent == {"nowhere": []}
    plain = state.to_dict()
    del plain["summary"]["absent"]
    old = State.from_dict(json.loads(json.dumps(plain)))
    for resumed, expected in ((state, [note("nowhere")]), (old, [])):
        with calculation.stream(source, resumed, workers=1) as stream:
            list(stream)
        assert stream.summary.notes == expected


def selected(names: Sequence[str]) -> Calculation:
    return Calculation().select(*names)


def test_selecting_only_what_no_line_has_is_reported(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b'{"id":1}\n{"id":2}\n')
    summary = selected(["ID", "z"]).run(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"{}\n{}\n"
    assert summary.notes == [note("ID", "select", "`id`"), note("z", "select")]
    assert summary.to_dict()["absent"] == {"ID": ["id"], "z": []}


@given(
    members=st.lists(st.lists(st.text("ab", min_size=1, max_size=2), max_size=5), min_size=1, max_size=4),
    wanted=st.lists(st.text("ab", max_size=2), max_size=4, unique=True),
)
@settings(max_examples=60)
def test_of_many_names_the_same_are_found_as_of_few(members: list[list[str]], wanted: list[str]) -> None:
    data = lines(*("{" + ",".join(f'"{name}":{place}' for place, name in enumerate(names)) + "}" for names in members))
    others = [f"nothing {number}" for number in range(50)]  # more than are looked for one after the other
    few, many = (attempt(data, Calculation().drop(*names, "z")) for names in (wanted, [*wanted, *others]))
    assert few.output == many.output
    assert set(few.summary.absent) == set(many.summary.absent) - {*others}


def unread(name: str, near: str = "") -> str:
    did_you_mean = f" Did you mean {near}?" if near else ""
    return f"no line has a value for `{name}`, which was read as null.{did_you_mean}"


values = st.sampled_from(["1", "null", '"x"', "true", None])
"""Of the two columns that are declared; `None` where there is no member."""


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(values, values), min_size=1, max_size=8), chunk_bytes=st.sampled_from([1, 30, 1 << 20]))
@example(rows=[(None, "1"), ("1", None)], chunk_bytes=1)
@example(rows=[("null", None)], chunk_bytes=1)
def test_a_declared_column_that_no_line_has_is_reported(
    rows: list[tuple[str | None, str | None]], chunk_bytes: int
) -> None:
    texts = [[f'"{name}":{value}' for name, value in zip("ab", row, strict=True) if value] for row in rows]
    fits = [row for row in rows if {*row} <= {"1", "null", None}]
    data = b"\n".join(f"{{{','.join(members)}}}".encode() for members in texts) + b'\n{"z":1}\n'
    calculation = Calculation.from_sql("a + b AS c", where="a = 1 OR b IS NULL")
    notes = notes_of(calculation.with_schema({"a": "Int64", "b": "Int64"}), data, chunk_bytes=chunk_bytes)
    expected = [name for place, name in enumerate("ab") if not any(row[place] == "1" for row in fits)]
    assert notes == [unread(name) for name in expected]


def test_a_declared_column_with_another_name_than_the_member_is_reported_with_that_name() -> None:
    calculation = Calculation.from_sql("starz * 2 AS c").with_schema({"starz": "Int64"})
    assert notes_of(calculation, b'{"stars":1,"id":2}\n') == [unread("starz", "`stars`")]


@pytest.mark.parametrize("data", [b"", b"\n", b'{"a":5,"b":{"c":1}}\n', b'{"a":6,"b":{"c":1}}\n{"a":1}\n'])
def test_declared_columns_that_are_there_or_are_not_read_as_values_are_not_reported(data: bytes) -> None:
    calculation = Calculation.from_sql("a AS d, b.c * 2 AS e, b IS NULL AS f", where="a > 0")
    assert notes_of(calculation.with_schema({"a": "Int64", "b.c": "Int64"}), data) == []


def test_a_declared_column_that_no_line_has_is_no_problem_for_a_check(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"stars":1}\n')
    calculation = Calculation.from_sql("COALESCE(starz, 0) AS c").with_schema({"starz": "Int64"})
    found = check(calculation.spec_for(source), source)
    assert found.summary.notes == [unread("starz", "`stars`")]
    assert found.problems() == []
