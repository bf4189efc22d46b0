"""Rows know the key and the version of the input that they came from, and where their line starts."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
import os
import pickle
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.places import ObjectPlace
from tests.support.stops import through_json
from transform import Calculation, CalculationError, SourceChangedError, State, load, source
from transform.expressions.origins import FIELDS

if TYPE_CHECKING:
    from pathlib import Path

ALL = Calculation(**{field: source(field) for field in FIELDS}).select()
MODIFIED = dt.datetime(2024, 2, 29, 13, 5, 9, 312345, dt.UTC)
VALID, OTHERS = b'{"a":1}', (b"", b" \r", b"no", b'{"a":2,"b":"\xc3\xa9"}\r', b'{"a":"x"}')


def rows(content: bytes | Path | str, calculation: Calculation = ALL, **options: Any) -> list[dict[str, Any]]:
    output = io.BytesIO()
    calculation.run(io.BytesIO(content) if isinstance(content, bytes) else content, output, **options)
    return [json.loads(line) for line in output.getvalue().splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "dt=2024-02-29" / "é.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"{}\n{}\n")
    nanoseconds = int(MODIFIED.timestamp()) * 10**9 + 312_345_678
    os.utime(path, ns=(nanoseconds, nanoseconds))
    return path


def test_what_is_known_of_a_file(file: Path) -> None:
    text = str(file)
    known = {"key": text, "uri": text, "name": "é.jsonl", "last_modified": "2024-02-29T13:05:09.312345+00:00"}
    unknown = dict.fromkeys(("bucket", "etag", "version_id", "element"))
    assert rows(file) == [{**unknown, **known, "offset": 0}, {**unknown, **known, "offset": 3}]


def test_the_path_is_as_it_was_given(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert rows("é.jsonl")[0]["key"] == "é.jsonl"


def test_of_a_stream_only_offsets_are_known() -> None:
    assert rows(b"\n{}\n") == [{**dict.fromkeys(FIELDS), "offset": 1}]


def test_of_an_object_it_is_the_version_that_is_read(s3: Any, bucket: str, scratch: Path) -> None:
    place = ObjectPlace(s3, bucket, scratch, "raw/dt=2024/é f.jsonl")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    place.put(b'{"a":1}\n')
    head = s3.head_object(Bucket=bucket, Key=place.key)
    (found,) = rows(place.target)
    assert found == {
        "bucket": bucket,
        "key": place.key,
        "uri": f"s3://{bucket}/{place.key}",
        "name": "é f.jsonl",
        "etag": head["ETag"].strip('"'),
        "version_id": head["VersionId"],
        "last_modified": head["LastModified"].astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000000+00:00"),
        "offset": 0,
        "element": None,
    }
    place.put(b'{"a":2}\n')
    assert rows(place.target)[0]["version_id"] != head["VersionId"]


def test_results_filters_and_rules_can_use_it(file: Path) -> None:
    sql = Calculation.from_sql(
        "UPPER(SOURCE('name')) || '!' AS n, SOURCE( 'offset' ) + 1 AS o, YEAR(source('last_modified')) AS y",
        where="SOURCE('offset') < 9 AND CAST(SOURCE('last_modified') AS TIMESTAMP) > TIMESTAMP '2024-01-01 00:00:00'",
        reject="SOURCE('offset') = 0: first; SOURCE('bucket') = 'b'",
    )
    day = source("key").str.extract(r"dt=([0-9-]+)/").str.to_date("%Y-%m-%d")
    python = (
        Calculation(n=source("name").str.to_uppercase() + "!", o=source("offset") + 1, y=day.dt.year())
        .filter(source("offset") < 9)
        .reject(source("offset") == 0, "first")
    )
    for calculation in (sql, python, pickle.loads(pickle.dumps(python))):
        assert rows(file, calculation) == [{"n": "É.JSONL!", "o": 4, "y": 2024}]
        assert calculation.columns == ()
        assert calculation.preview(file).to_dicts() == [{"n": "É.JSONL!", "o": 4, "y": 2024}]


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.sampled_from((VALID, *OTHERS)), max_size=30),
    chunk_bytes=st.integers(1, 40),
    range_bytes=st.integers(1, 60),
    workers=st.integers(1, 3),
    bom=st.booleans(),
)
def test_offsets_are_those_of_the_lines(
    lines: list[bytes], chunk_bytes: int, range_bytes: int, workers: int, bom: bool, tmp_path_factory: Any
) -> None:
    directory = tmp_path_factory.getbasetemp()
    content = b"\xef\xbb\xbf" * bom + b"\n".join([VALID, *lines])
    expected, offset = [], 3 * bom
    for line in [VALID, *lines]:
        if line in (VALID, OTHERS[3]):
            expected.append({"o": offset, "i": f"{offset}!"})
        offset += len(line) + 1
    calculation = Calculation(o=source("offset"), i=pl.format("{}!", source("offset"))).reject(pl.col("a") < 0)
    calculation = calculation.with_schema({"a": "Int64"}).select()
    options: dict[str, Any] = {"chunk_bytes": chunk_bytes, "range_bytes": range_bytes, "workers": workers}
    for name, stored in (("o.jsonl", content), ("o.jsonl.gz", gzip.compress(content))):
        path = directory / name
        path.write_bytes(stored)
        assert rows(path, calculation, **options) == expected


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.lists(st.sampled_from(("{}", ' {"a":1}', "5", '{"a":"x"}')), max_size=6), min_size=1, max_size=8),
    chunk_bytes=st.integers(1, 60),
    workers=st.integers(1, 3),
    as_json=st.booleans(),
)
def test_elements_know_their_number(lines: list[list[str]], chunk_bytes: int, workers: int, as_json: bool) -> None:
    lines = [["{}"], *lines]
    content = "".join(f'{{"r": [{",".join(elements)}]}}\n' for elements in lines).encode()
    calculation = Calculation.from_sql(
        "SOURCE('element') AS e", "COALESCE(a, 1) = SOURCE('element') - SOURCE('element') + 1"
    )
    calculation = calculation.with_schema({"a": "Int64"}).each("r").select()
    assert rows(
        content, calculation.with_format("json" if as_json else "lines"), chunk_bytes=chunk_bytes, workers=workers
    ) == [
        {"e": number}
        for elements in lines
        for number, element in enumerate(elements, 1)
        if element.strip() in ("{}", '{"a":1}')
    ]


def test_worker_processes_have_it_too(file: Path) -> None:
    file.write_bytes(b'{"a":1}\n' * 300)
    calculation = Calculation(
        k=source("name"),
        o=source("offset"),
        a=pl.col("a").map_elements(lambda a: int(str(a)) + 1, return_dtype=pl.Int64),
    ).assume_pure()
    assert rows(file, calculation.select(), workers=2, range_bytes=500, chunk_bytes=200) == [
        {"k": "é.jsonl", "o": 8 * number, "a": 2} for number in range(300)
    ]


def test_a_run_is_not_resumed_with_other_values(s3: Any, bucket: str, scratch: Path) -> None:
    place = ObjectPlace(s3, bucket, scratch, "in.jsonl")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    content = b'{"a":1}\n' * 50
    for calculation, starts_again in (
        (Calculation(v=source("version_id")), True),
        (Calculation(v=source("key")), False),
        (Calculation(v=source("offset")), False),
    ):
        place.put(content)
        with calculation.stream(place.target, workers=1, chunk_bytes=100) as stream:
            parts = iter(stream)
            first = b"".join(next(parts).output)
            next(parts)
            state = through_json(stream.state)
        with calculation.stream(place.target, state, workers=1, chunk_bytes=100) as stream:
            rest = b"".join(data for part in stream for data in part.output)
        assert len((first + rest).splitlines()) == 50, "it is the same version"
        place.put(content)
        with calculation.stream(place.target, state, workers=1) as stream:
            if starts_again:
                with pytest.raises(SourceChangedError, match="was written again"):
                    next(iter(stream))
            else:
                assert b"".join(data for part in stream for data in part.output) == rest
    with pytest.raises(TypeError):
        State.from_dict({**state.to_dict(), "source": 3})


def test_the_digest_has_the_field_and_not_its_value(file: Path) -> None:
    digests = {Calculation.from_sql(f"SOURCE('{field}') AS x").digest for field in FIELDS}
    assert len(digests) == len(FIELDS)
    before = ALL.digest
    rows(file)
    assert ALL.digest == before


def test_a_file_may_use_it(tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text(
        "from transform import Calculation, source\ncalculation = Calculation(o=source('offset'))"
    )
    assert rows(b'{"a":1}\n', load(f"{tmp_path}/c.py")) == [{"a": 1, "o": 0}]  # type: ignore[arg-type]


def test_a_member_of_a_similar_name_is_a_member() -> None:
    line = b'{"source":1,"SOURCE":2,"key":3}'
    assert rows(line, Calculation.from_sql('source AS a, SOURCE + 1 AS b, "key" AS c').select()) == [
        {"a": 1, "b": 3, "c": 3}
    ]


@pytest.mark.parametrize("field", ["kee", "", "Key", 3, None, ["key"], {}])
def test_an_unknown_field_is_refused(field: Any) -> None:
    with pytest.raises(CalculationError, match=r"a source has 'bucket', .* and no"):
        source(field)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOURCE('kee') AS k", "Did you mean `key`"),
        ("SOURCE(key) AS k", "SOURCE takes one name in single quotes"),
        ("SOURCE() AS k", "SOURCE takes one name in single quotes"),
        ("SOURCE('key', 1) AS k", "SOURCE takes one name in single quotes"),
        ("SOURCE('key')", "needs a name for its result"),
        ("SOURCE('key') + 1 AS k", "text"),
    ],
)
def test_what_is_wrong_in_sql_is_told(text: str, message: str) -> None:
    with pytest.raises(CalculationError, match=message):
        rows(b"{}", Calculation.from_sql(text))


def test_it_needs_a_name_in_python_too() -> None:
    with pytest.raises(CalculationError, match="needs a name for its result"):
        Calculation(source("key"))
