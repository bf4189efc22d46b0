"""Arguments that make no sense are refused with a line that has the name, the value, and what is allowed."""

from __future__ import annotations

import io
import math
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.example import CALCULATION, lines, transformed
from transform import (
    Calculation,
    CalculationsByPrefix,
    LineFunction,
    OutputError,
    S3Object,
    TransformError,
    load,
    lookup,
    read_rejects,
)
from transform.cli.options import MaxRejects, Size
from transform.engine.options import EngineOptions, RunOptions
from transform.errors import OptionError
from transform.explore.check import check
from transform.io.conflicts import check_no_conflicts
from transform.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZES = [0, -1, 1.5, 1e6, True, "", "abc", "0", "-1", "1e6", "5 minutes", [5], b"5", math.nan]
COUNTS = [0, -1, 1.5, 2.0, True, False, "2", "two", [2], math.nan, math.inf]


class Place(os.PathLike[Any]):
    """A path whose text is not what `str` gives, as that of `os.DirEntry`."""

    def __init__(self, path: str | bytes) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


def run(**options: Any) -> object:
    return CALCULATION.run(io.BytesIO(lines(3)), io.BytesIO(), **options)


def preview(**options: Any) -> object:
    return CALCULATION.preview(io.BytesIO(lines(3)), **options)


def preview_function(**options: Any) -> object:
    return LineFunction(lambda line: line).preview(io.BytesIO(lines(3)), **options)


def compare(**options: Any) -> object:
    return CALCULATION.compare(lambda line: line, io.BytesIO(lines(3)), **options)


def profile(**options: Any) -> object:
    return CALCULATION.profile(io.BytesIO(lines(3)), **options)


def check_lines(**options: Any) -> object:
    return check(CALCULATION.spec_for(""), io.BytesIO(lines(3)), **options)


def estimate(**options: Any) -> object:
    return CALCULATION.profile(io.BytesIO(lines(3))).estimate(**{"size": 100} | options)


def rejects(**options: Any) -> object:
    return read_rejects("absent", **options)


ALLOWED = {"size": "a size such as 64MiB, 10MB or 5000", "count": "a whole number"}
TABLE: dict[tuple[Callable[..., object], str], tuple[str, list[Any]]] = {
    (run, "max_line_bytes"): (ALLOWED["size"], [*SIZES, None]),
    (run, "chunk_bytes"): (f"{ALLOWED['size']}, at most 1GiB", [*SIZES, None, "2GiB", 10**15]),
    (run, "range_bytes"): (ALLOWED["size"], [*SIZES, None]),
    (run, "workers"): (f"{ALLOWED['count']} from 1 to 1024", [*COUNTS, 1025]),
    (run, "max_inflation"): (f"{ALLOWED['count']} of at least 1", COUNTS),
    (run, "max_rejects"): (
        "a number of lines or a share such as 5%",
        [-1, 1.5, True, "some", "101%", "1/0%", "1e9%", "1e999999999%", "1_0", "%", ".%", [], math.nan],
    ),
    (run, "on_error"): ("`reject` or `fail`", ["ignore", None, 1, True, [], "REJECT"]),
    (run, "progress"): ("True, False or a function", [5, "bar", 1]),
    (preview, "rows"): (f"{ALLOWED['count']} of at least 0", [*COUNTS[1:], None, "ten"]),
    (preview, "rejected"): ("a list", [5, "x", ()]),
    (preview_function, "rows"): (f"{ALLOWED['count']} of at least 0", [*COUNTS[1:], None]),
    (compare, "lines"): (f"{ALLOWED['count']} of at least 1", COUNTS),
    (compare, "rel_tol"): ("a share from 0 to 1", [-1, math.nan, math.inf, "0.1", True, None, 1.5]),
    (profile, "max_bytes"): (ALLOWED["size"], SIZES),
    (check_lines, "lines"): (f"{ALLOWED['count']} of at least 1", COUNTS),
    (estimate, "size"): (ALLOWED["size"], [*SIZES, None]),
    (estimate, "cores"): (f"{ALLOWED['count']} of at least 1", COUNTS),
    (rejects, "rows"): (f"{ALLOWED['count']} of at least 0", COUNTS[1:]),
}
CASES = [(call, name, allowed, value) for (call, name), (allowed, values) in TABLE.items() for value in values]


@pytest.mark.parametrize(("call", "name", "allowed", "value"), CASES)
def test_a_senseless_value_is_refused(call: Callable[..., object], name: str, allowed: str, value: object) -> None:
    with pytest.raises(OptionError) as caught:
        call(**{name: value})
    assert str(caught.value) == f"{name} is {allowed}, not {value!r}"


def test_every_option_of_a_run_has_senseless_values() -> None:
    assert {name for call, name in TABLE if call is run} == RunOptions.__annotations__.keys() | {"progress"}


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(OptionError) as caught:
        run(workers="x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["1MB", "64KiB", "5000", " 2 mib ", "1.5k", "0.001GB"])
@pytest.mark.parametrize("name", ["max_line_bytes", "chunk_bytes", "range_bytes"])
def test_sizes_are_taken_as_text_as_by_the_command(name: str, text: str) -> None:
    size = Size().convert(text, None, None)
    assert getattr(EngineOptions.from_run_options({name: text}), name) == size == parse_size(text)  # type: ignore[misc]
    run(**{name: text})
    assert profile(max_bytes=text) is not None


@pytest.mark.parametrize("text", ["0", "7", " 5% ", "0.5%", "100.0%", "5.%"])
def test_limits_of_rejects_are_those_of_the_command(text: str) -> None:
    assert EngineOptions.from_run_options({"max_rejects": MaxRejects().convert(text, None, None)}).policy is not None


def test_integers_of_numpy_are_integers() -> None:
    run(workers=np.int64(1), max_line_bytes=np.uint8(200), max_inflation=np.int8(3))
    assert len(CALCULATION.preview(io.BytesIO(lines(3)), np.int32(2))) == 2  # type: ignore[arg-type]


def test_what_is_allowed_at_the_edge() -> None:
    assert len(CALCULATION.preview(io.BytesIO(lines(3)), 0)) == 0
    run(workers=1, chunk_bytes=1, range_bytes=1, max_rejects=0, max_inflation=1)
    compare(lines=1, rel_tol=0)
    compare(lines=None, rel_tol=1)


NO_SOURCES: list[tuple[Any, str]] = [
    *((value, f"not {value!r}") for value in (None, 5, 1.5, True)),
    ([], "not list"),
    (object(), "not object"),
    (b'{"a":1}', "not bytes; io.BytesIO(…) is a file object of bytes"),
    (io.StringIO("{}"), "is a text stream; open it in binary mode"),
    ("", "is not the name of a file or an object: ''"),
    ("a\0b", r"is not the name of a file or an object: 'a\x00b'"),
    ("a\ud83d", r"is not the name of a file or an object: 'a\ud83d'"),
    ("s3://bucket/a\udcff", r"is not the name of a file or an object: 's3://bucket/a\udcff'"),
    (Place(b"in.jsonl"), "is a path in bytes: b'in.jsonl'; os.fsdecode(…) makes text of it"),
    (Place("s3:/bucket/key"), "give it as text: 's3://bucket/key'"),
]


@pytest.mark.parametrize(("place", "said"), NO_SOURCES, ids=[repr(place)[:20] for place, _ in NO_SOURCES])
def test_what_is_no_place_is_refused(tmp_path: Path, place: Any, said: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(lines(3))
    calls: list[tuple[str, Callable[[], object]]] = [
        ("input", lambda: CALCULATION.run(place, io.BytesIO())),
        ("input", lambda: CALCULATION.preview(place)),
        ("input", lambda: CALCULATION.profile(place)),
        ("input", lambda: CALCULATION.compare(lambda line: line, place)),
        ("input", lambda: CALCULATION.stream(place).__enter__()),
        ("output", lambda: CALCULATION.run(source, place)),
    ]
    if place is not None:
        calls += [("rejects", lambda: CALCULATION.run(source, io.BytesIO(), rejects=place))]
    for role, call in calls:
        with pytest.raises(OptionError) as caught:
            call()
        text = str(caught.value)
        assert text.startswith(f"the {role} is ")
        assert (said if role != "rejects" else "") in text
        assert "\n" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_closed_file_is_refused() -> None:
    closed = io.BytesIO(b"{}")
    closed.close()
    for source, target in ((closed, io.BytesIO()), (io.BytesIO(b"{}"), closed)):
        with pytest.raises(OptionError, match=r"^the (input|output) is a file object that is closed$"):
            CALCULATION.run(source, target)


@pytest.mark.parametrize("state", [5, {}, "state"])
def test_a_state_that_is_none_is_refused(state: Any) -> None:
    with pytest.raises(OptionError, match=f"^state is the `state` of an earlier run, not {re.escape(repr(state))}$"):
        CALCULATION.stream(io.BytesIO(lines(3)), state)


@pytest.mark.parametrize("reference", [None, 5, b"calc.py", ["calc.py"], Place(b"calc.py")])
def test_a_reference_that_is_no_text_is_refused(reference: Any) -> None:
    with pytest.raises(
        OptionError, match=r"^a calculation is named as path/file\.py:name or package\.module:name, not "
    ):
        load(reference)


@pytest.mark.parametrize("schema", [None, 5, "a=Int64", [("a", "Int64")], {1: "Int64"}])
def test_a_schema_is_by_column(schema: Any) -> None:
    said = f"schema is a mapping from names of columns to types, not {schema!r}"
    with pytest.raises(OptionError, match=f"^{re.escape(said)}$"):
        CALCULATION.with_schema(schema)


@pytest.mark.parametrize("path", [None, 5, b"table.csv"])
def test_a_table_is_named_by_a_path(path: Any) -> None:
    with pytest.raises(OptionError, match=rf"^a table is named by a path, not {path!r}$"):
        lookup(path, "k")


@pytest.mark.parametrize("name", ["x" * 300 + ".jsonl", "d/" * 3000 + "x"])
def test_a_name_that_is_too_long_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    source, place = tmp_path / "in.jsonl", tmp_path / name
    source.write_bytes(lines(3))
    for call in (
        lambda: CALCULATION.run(place, tmp_path / "out"),
        lambda: CALCULATION.run(source, place),
        lambda: CALCULATION.run(source, tmp_path / "out", rejects=place),
        lambda: CALCULATION.preview(place),
        lambda: load(f"{place}.py"),
        lambda: read_rejects(place),
    ):
        with pytest.raises(TransformError) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


class TestPaths:
    """A path of any sort is taken wherever a name of a file is."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        (tmp_path / "in.jsonl").write_bytes(lines(3) + b"no\n")
        return tmp_path / "in.jsonl"

    @pytest.mark.parametrize("kind", [str, lambda path: path, lambda path: Place(str(path))])
    def test_all_of_them(self, tmp_path: Path, source: Path, kind: Callable[[Path], Any]) -> None:
        place, output = kind(source), tmp_path / "out.jsonl"
        summary = CALCULATION.run(place, kind(output), rejects=kind(tmp_path / "r"))
        assert (summary.source, summary.target, summary.rejects) == (str(source), str(output), str(tmp_path / "r"))
        assert output.read_bytes() == transformed(3)
        assert read_rejects(kind(tmp_path / "r")).height == 1
        assert CALCULATION.preview(place).height == 3
        assert CALCULATION.profile(place).lines == 4
        assert CALCULATION.compare(lambda line: line, place).lines == 4
        with CALCULATION.stream(place) as stream:
            assert len([*stream]) == 1
        calculation = tmp_path / "calc.py"
        (tmp_path / "table.csv").write_text("k,v\n1,2\n")
        (tmp_path / "places.py").write_text(
            "import os\nclass Place(os.PathLike):\n    def __fspath__(self):\n        return 'table.csv'\n"
        )
        calculation.write_text(
            "import polars as pl\nfrom places import Place\nfrom transform import Calculation, lookup\n"
            "calculation = {'': Calculation(x=pl.col('a').is_in(lookup(Place(), 'k')))}\n"
        )
        assert load(kind(calculation)).preview(place).columns == ["a", "x"]

    def test_an_entry_of_a_directory(self, tmp_path: Path, source: Path) -> None:
        with os.scandir(tmp_path) as entries:
            entry = next(iter(entries))
        assert CALCULATION.run(entry, io.BytesIO()).source == str(source)

    def test_a_uri_is_one_whatever_the_sort(self) -> None:
        several = CalculationsByPrefix({"raw/": CALCULATION, "raw/users/": Calculation().drop("email")})
        for place in (Place("s3://bucket/raw/users/1"), S3Object("bucket", "raw/users/1"), Place("raw/users/1")):
            assert several.of(place) is several.of("s3://bucket/raw/users/1")
        with pytest.raises(OutputError, match="the rejects is the output"):
            check_no_conflicts({"output": Place("s3://bucket/a"), "rejects": "s3://bucket/a"})

    def test_a_conflict_is_found_whatever_the_sort(self, source: Path) -> None:
        with pytest.raises(TransformError, match="the output is the input"):
            CALCULATION.run(source, Place(str(source)))


def test_a_calculation_of_another_kind_is_checked_alike() -> None:
    with pytest.raises(OptionError, match=r"^workers is "):
        Calculation.from_sql("a AS b").run(io.BytesIO(b"{}"), io.BytesIO(), workers=0)


@pytest.mark.parametrize("expressions", [None, 3, [1], ["a AS b", None], {"a": "b"}, b"a AS b"])
def test_sql_is_text(expressions: Any) -> None:
    with pytest.raises(OptionError, match=r"^expressions is SQL text, or a list of such texts, not "):
        Calculation.from_sql(expressions)


@pytest.mark.parametrize("where", [None, 3, ["a = 1"], b"a = 1"])
def test_a_condition_is_text(where: Any) -> None:
    with pytest.raises(OptionError, match=r"^where is SQL text, not "):
        Calculation.from_sql("a AS b", where=where)
