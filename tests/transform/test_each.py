"""Rows that are elements of an array in each line, through the library and the command."""

from __future__ import annotations

import io
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import json_texts
from tests.support.kernels import levels
from tests.support.rows_reference import is_object
from tests.support.tuned import Tuned
from transform import Calculation, LineFunction, OptionError, Runnable, State, read_rejects
from transform.decode.row_format import LINES, parse_paths, spelled
from transform.explore.check import check
from transform.native.binding import MISSING, with_slack
from transform.native.each import Beside, Source, write_elements

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Command
    from transform.native.binding import Kernel

TEXT = b"""\
{"account": "7", "Records": [{"a": 1, "b": {"c": "]}"}}, {"a": 2},{} , {"a": "x"}, 7, {"a":1.50}], "region": "eu"}

{"account": "8"}
{"account": "9", "Records": {}}
{"Records": []}
nope
{"account": 10, "Records": [{ "a": 1, "account": 11 }], "region": {"x": [1]}}\r
"""
OUTPUT = b"""\
{"account":"7","region":"eu","a": 1, "b": {"c": "]}"},"d":2.0}
{"account":"7","region":"eu","a": 2,"d":4.0}
{"account":"7","region":"eu","d":null}
{"account":"7","region":"eu","a":1.50,"d":3.0}
{"account":10,"region":{"x": [1]}, "a": 1, "account": 11 ,"d":2.0}
"""
REJECTED = [
    (TEXT.index(b'{"a": "x"}'), 1, 4, '{"account":"7","region":"eu","a": "x"}'),
    (TEXT.index(b"7, {"), 1, 5, "7"),
    (TEXT.index(b'{"account": "8"'), 3, None, '{"account": "8"}'),
    (TEXT.index(b'{"account": "9"'), 4, None, '{"account": "9", "Records": {}}'),
    (TEXT.index(b"nope"), 6, None, "nope"),
]
DOUBLE = Calculation.from_sql("a * 2 AS d").with_schema({"a": "Float64"}).each("Records", "account, region")


def doubled(json_obj: dict[str, Any]) -> dict[str, Any]:
    json_obj["d"] = json_obj["a"] * 2.0 if "a" in json_obj else None
    return json_obj


def results(runnable: Runnable, text: bytes, path: Path, **options: Any) -> tuple[bytes, list[tuple[Any, ...]]]:
    source, target = path / "in.jsonl", path / "out.jsonl"
    source.write_bytes(text)
    summary = runnable.run(source, target, **options)
    assert summary.lines_in == summary.lines_out + summary.filtered + summary.rejected + summary.blank
    rejects = path / "out.jsonl.rejects.jsonl"
    found = [json.loads(line) for line in rejects.read_bytes().splitlines()] if rejects.exists() else []
    return target.read_bytes(), [(one["offset"], one["line"], one.get("element"), one["raw"]) for one in found]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("range_bytes", [20, 1 << 20])
def test_elements_become_lines_and_rejects_have_their_places(tmp_path: Path, workers: int, range_bytes: int) -> None:
    options = {"workers": workers, "chunk_bytes": range_bytes, "range_bytes": range_bytes}
    assert results(DOUBLE, TEXT, tmp_path, **options) == (OUTPUT, REJECTED)


@pytest.mark.parametrize("only_processes", [False, True])
def test_functions_get_the_elements(tmp_path: Path, *, only_processes: bool) -> None:
    function = Tuned(LineFunction(doubled).each("Records", "account, region"), only_processes=only_processes)
    output, rejects = results(function, TEXT.replace(b'"a": "x"', b'"a": [7]'), tmp_path, workers=2)
    assert [json.loads(line) for line in output.splitlines()] == [json.loads(line) for line in OUTPUT.splitlines()]
    assert [one[1:3] for one in rejects] == [one[1:3] for one in REJECTED]


def test_elements_of_json_texts_have_the_offset_of_their_text(tmp_path: Path) -> None:
    text = b'[\n  {"account": 1, "Records": [\n    {"a":\n 1},\n    {"a": "x"}]}\n]{"Records": [{"a": 3}]}'
    output, rejects = results(DOUBLE.with_format("json"), text, tmp_path)
    assert output == b'{"account":1,"a":1,"d":2.0}\n{"a": 3,"d":6.0}\n'
    assert rejects == [(4, 1, 2, '{"account":1,"a": "x"}')]


@st.composite
def _lines(draw: st.DrawFn) -> list[tuple[str, list[str]]]:
    """Draw lines, each with the texts of its elements."""
    space = st.sampled_from(["", "", " ", "\t"])
    found = []
    for _ in range(draw(st.integers(1, 5))):
        elements = draw(st.lists(json_texts.values(), max_size=5))
        inside = ",".join(draw(space) + element + draw(space) for element in elements)
        before = draw(st.sampled_from(["", '"x": {"r": [1]}, ', '"r": 7, ', '"k": "\\"]", ']))
        found.append((f'{draw(space)}{{{before}"r":{draw(space)}[{inside}]{draw(space)}}}', elements))
    return found


@given(_lines(), st.integers(1, 80), st.integers(1, 3))
def test_each_element_that_is_an_object_is_a_row(
    lines: list[tuple[str, list[str]]], chunk_bytes: int, workers: int
) -> None:
    text = "\n".join(line for line, _ in lines).encode("utf-8", "surrogatepass")
    calculation = Calculation(tag_=pl.lit(1)).each("r")
    with calculation.stream(io.BytesIO(text), chunk_bytes=chunk_bytes, workers=workers) as stream:
        output, rejects = b"", b""
        try:
            for part in stream:
                output += b"".join(part.output)
                rejects += b"".join(part.rejects)
        except Exception as error:  # noqa: BLE001 - the assertion shows it
            assert "every line was rejected" in str(error)  # noqa: PT017 - it is one of two ways to end
    found = output.replace(b',"tag_":1}\n', b"}\n").replace(b'{"tag_":1}\n', b"{}\n").split(b"\n")[:-1]
    elements = [element.encode("utf-8", "surrogatepass") for _, elements in lines for element in elements]
    assert found == [element for element in elements if is_object(element)]
    places = [(one["line"], one["element"]) for one in map(json.loads, rejects.splitlines())]
    assert places == [
        (number, index)
        for number, (_, elements) in enumerate(lines, 1)
        for index, element in enumerate(elements, 1)
        if not is_object(element.encode("utf-8", "surrogatepass"))
    ]


@pytest.mark.parametrize("kernel", levels(), ids=lambda kernel: kernel.level)
@given(_lines(), st.integers(1, 4), st.integers(1, 30))
def test_every_level_of_the_processor_finds_the_same_elements(
    kernel: Kernel, lines: list[tuple[str, list[str]]], max_rows: int, max_bytes: int
) -> None:
    data, starts, expected = b"", [], []
    for number, (line, elements) in enumerate(lines):
        text = line.encode("utf-8", "surrogatepass")
        starts.append(len(data) + text.rindex(b'"r":') + text[text.rindex(b'"r":') :].index(b"["))
        data += text + b"\n"
        for index, element in enumerate(elements, 1):
            one = element.encode("utf-8", "surrogatepass")
            if one.startswith(b"{"):
                rest = one[1:].lstrip(b" \t\r")
                one = b'{"m":' + text[:1] + (b"" if rest == b"}" else b",") + one[1:]
            expected.append((number, index, one))
    if any(b'"r":' in element.encode("utf-8", "surrogatepass") for _, elements in lines for element in elements):
        return
    bounds = [0, *(at + 1 for at in range(len(data)) if data[at : at + 1] == b"\n")][:-1]
    beside = Beside(b'"m":', np.array(bounds, np.uint32), np.array(bounds, np.uint32) + np.uint32(1))
    kinds = np.full(len(lines), Source.ELEMENTS, np.uint8)
    found = []
    chunk = with_slack(memoryview(bytearray(data)))
    for part in write_elements(chunk, kinds, np.array(starts, np.uint32), [beside], max_rows, max_bytes, kernel):
        texts = bytes(part.data).split(b"\n")[:-1]
        assert len(texts) == len(part.lines) <= max_rows
        found += list(zip(part.lines.tolist(), part.elements.tolist(), texts, strict=True))
    assert found == expected


def test_missing_members_are_left_out() -> None:
    data = with_slack(memoryview(bytearray(b"[{}]\n")))
    beside = Beside(b'"m":', np.array([MISSING], np.uint32), np.array([MISSING], np.uint32))
    kinds, starts = np.array([Source.ELEMENTS], np.uint8), np.array([0], np.uint32)
    assert [bytes(part.data) for part in write_elements(data, kinds, starts, [beside], 9, 9)] == [b"{}\n"]


def test_a_line_of_many_elements_is_taken_in_parts(tmp_path: Path) -> None:
    text = b'{"Records": [' + b",".join(b'{"a": %d}' % number for number in range(100_000)) + b',{"a":"x"}]}\n' + TEXT
    output, rejects = results(DOUBLE, text, tmp_path)
    assert output.splitlines()[99_999] == b'{"a": 99999,"d":199998.0}'
    assert output.endswith(OUTPUT)
    start = text.index(TEXT)
    assert rejects[0] == (start - len(b'{"a":"x"}]}\n'), 1, 100_001, '{"a":"x"}')
    assert rejects[1:] == [(offset + start, line + 1, *rest) for offset, line, *rest in REJECTED]


def test_nested_paths_and_names_in_quotes(tmp_path: Path) -> None:
    text = b'{"d": {"a.b": [{"x": 1}], "id": 5}, "t": null}\n{"d": 7}\n'
    output, rejects = results(Calculation(y=pl.lit(0)).each('d."a.b"', "d.id, t"), text, tmp_path)
    assert output == b'{"id":5,"t":null,"x": 1,"y":0}\n'
    assert [one[1:] for one in rejects] == [(2, None, '{"d": 7}')]


def test_members_beside_are_members_of_the_row(tmp_path: Path) -> None:
    calculation = Calculation.from_sql("UPPER(region) AS r", "account <> '7'").each("Records", "account, region")
    text = b'{"account": "7", "region": "eu", "Records": [{}]}\n{"account": "8", "region": "us", "Records": [{}]}\n'
    assert results(calculation, text, tmp_path) == (b'{"account":"8","region":"us","r":"US"}\n', [])


def test_a_run_is_resumed_between_lines(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(TEXT)
    with DOUBLE.stream(source, chunk_bytes=1, workers=1) as stream:
        before, states = b"", []
        for part in stream:
            states += [(stream.state, before)] * part.resumable
            before += b"".join(part.output)
    for state, output in states:
        again = State.from_dict(json.loads(json.dumps(state.to_dict())))
        with DOUBLE.stream(source, again, workers=1) as stream:
            output += b"".join(data for part in stream for data in part.output)  # noqa: PLW2901 - it grows
        assert output == OUTPUT
        assert (stream.summary.lines_in, stream.summary.lines_read, stream.summary.rejected) == (11, 7, 5)


def test_states_of_earlier_versions_have_no_other_rows_than_lines() -> None:
    plain = State().to_dict()
    plain["summary"] |= {"lines_in": 5}
    del plain["summary"]["lines_read"]
    assert State.from_dict(plain).summary.lines_read == 5


def test_rows_are_in_the_digest_and_travel_with_the_calculation() -> None:
    plain = Calculation.from_sql("a * 2 AS c")
    digests = {one.digest for one in (plain, plain.each("r"), plain.each("s"), plain.each("r", "a"))}
    assert len(digests) == 4
    assert pickle.loads(pickle.dumps(plain.each("r", "a"))).digest == plain.each("r", "a").digest


@pytest.mark.parametrize("path", ["", "a,b", "a..b", '"a', "a.", 'a"b"', "a\udcff", '"\ud83d"', 5, None, ["a"]])
def test_paths_that_are_none_are_refused(path: Any) -> None:
    with pytest.raises(OptionError, match="path"):
        LINES.with_each(path)


@pytest.mark.parametrize("beside", ["a,", ",", '"a', "a.\udcff", 5, None, ["a"], ("a",), b"a"])
def test_members_that_are_none_are_refused(beside: Any) -> None:
    with pytest.raises(OptionError, match="expected paths of members"):
        LINES.with_each("r", beside)


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(OptionError, match="two members would be `id`"):
        LINES.with_each("r", "a.id, id")


def test_a_calculation_shows_its_rows() -> None:
    shown = str(Calculation(a=1).with_format("json").each('d."a.b"', 'x, "", "y"""'))
    assert shown.splitlines()[-3:] == ["  format json", '  each d."a.b"', '  with x, "", "y"""']
    assert "each" not in str(Calculation(a=1))
    assert "<code>Records</code>" in Calculation(a=1).each("Records")._repr_html_()


def test_the_reason_spells_the_path_as_the_option_does(tmp_path: Path) -> None:
    text = b'{"d":{"a.b":[{}]}}\n{"d":{"a":{"b":[]}}}\n{"d":{"a.b":7}}\n'
    (tmp_path / "in.jsonl").write_bytes(text)
    summary = Calculation(a=1).each('d."a.b"').run(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert [kind.partition(",")[0] for kind in summary.reject_reasons] == [
        'there is no member `d."a.b"`',
        '`d."a.b"` is no array',
    ]


def test_paths() -> None:
    found = parse_paths(' a . "b.c" ,"d ""e""", f g')
    assert found == [("a", "b.c"), ('d "e"',), ("f g",)]
    assert parse_paths(", ".join(map(spelled, found))) == found


def test_other_ways_to_look_at_an_input(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(TEXT)
    rejected: list[str] = []
    assert DOUBLE.preview(source, rejected=rejected)["d"].to_list() == [2.0, 4.0, None, 3.0, 2.0]
    assert rejected[:3] == [
        f'line 1, element 4 (offset {REJECTED[0][0]}): column `a`: expected a number, found a string: "x"',
        f"line 1, element 5 (offset {REJECTED[1][0]}): not a JSON object: int",
        f"line 3 (offset {REJECTED[2][0]}): there is no member `Records`, whose elements are the rows",
    ]
    found = check(DOUBLE.spec_for(source), source)
    assert (found.summary.lines_in, found.summary.rejected, found.nulls) == (11, 5, {"d": 1})
    assert check(DOUBLE.spec_for(source), source, 2).summary.lines_in == 2
    assert DOUBLE.profile(source).lines == 11
    compared = DOUBLE.compare(doubled, source)
    assert (compared.lines, compared.equal) == (10, 9), "a function keeps one of two members of one name"
    assert LineFunction(doubled).each("Records").preview(source, 2).height == 2
    summary = DOUBLE.run(source, tmp_path / "out.jsonl")
    assert read_rejects(str(summary.rejects))["element"].to_list() == [4, 5, None, None, None]


def test_command(tmp_path: Path, command: Command) -> None:
    (tmp_path / "in.jsonl").write_bytes(TEXT)
    rows = ("--each", "Records", "--with", "account", "--with", "region")
    done = command("run", "in.jsonl", "-", "-e", "a * 2 AS d", "--schema", "a=Float64", *rows)
    assert (done.returncode, done.stdout) == (3, OUTPUT)
    assert b"6 lines sampled" in command("schema", "in.jsonl", *rows).stdout
    done = command("run", "in.jsonl", "-", "--drop", "a", "--with", "a")
    assert (done.returncode, b"--with needs --each" in done.stderr) == (2, True)
    assert command("run", "in.jsonl", "-", "--drop", "a", "--each", "a,b").returncode == 2
