"""A column declared as json has the text of a member of any kind, as it is in the line."""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

import polars as pl
import pytest

from tests.support.stops import through_json
from tests.support.typed import typed
from transform import Calculation, SchemaError
from transform.decode.schema import Json, parse_type, read_type
from transform.explore.check import check

TEXTS = [
    '{"a": 1 ,"b":[1.50]}',
    '"x\\u00e9 \\ud83d\\n"',
    "[ 1, {} ]",
    "-0.0",
    "1e999",
    "1" * 60,
    "true",
    '""',
    "[" * 400 + "]" * 400,
]


def run(lines: list[str], calculation: Calculation, **options: Any) -> list[dict[str, Any]]:
    output = io.BytesIO()
    calculation.run(io.BytesIO("".join(f"{line}\n" for line in lines).encode()), output, **options)
    return [json.loads(line, parse_float=str, parse_int=str) for line in output.getvalue().splitlines()]


def copy(name: str, **schema: str) -> Calculation:
    return Calculation(r=typed(name)).with_schema(schema or {name: "json"}).select()


@pytest.mark.parametrize("chunk_bytes", [1, 4096])
def test_the_text_is_as_it_is_in_the_line(chunk_bytes: int) -> None:
    lines = [f'{{"v":\t{text} ,"w":0}}' for text in TEXTS] + ['{"v":null}', "{}", '{"v":1,"v": [2]}']
    found = [row["r"] for row in run(lines, copy("v"), chunk_bytes=chunk_bytes)]
    assert found == [*TEXTS, None, None, "[2]"]


def test_a_line_that_is_decoded_alone_has_the_same_text() -> None:
    """A number of another column that is beyond 64 bits makes it one."""
    lines = [f'{{"v":\t{text} ,"n":{10**20}}}' for text in TEXTS] + [f'{{"v":null,"n":{10**20}}}']
    calculation = Calculation(r=typed("v"), n=pl.col("n") + 1).with_schema({"v": "json", "n": "Int128"})
    assert [row["r"] for row in run(lines, calculation.select())] == [*TEXTS, None]


def test_a_member_of_an_object() -> None:
    path = Calculation.from_sql("o.p.q || '' AS r").with_schema({"o.p.q": "JSON"}).select()
    lines = [f'{{"o":{{"p":{{"q": {text} }}}}}}' for text in TEXTS[:8]] + ['{"o":null}', '{"o":{"p":{}}}', '{"o":3}']
    assert [row["r"] for row in run(lines, path)] == [*TEXTS[:8], None, None], "the last line is rejected"


def test_a_result_that_is_the_member_as_it_is_stays_that() -> None:
    calculation = Calculation.from_sql("v AS r").with_schema({"v": "json"}).select()
    assert run(['{"v": {"a":1.50} }'], calculation) == [{"r": {"a": "1.50"}}]


def test_no_value_rejects_its_line_and_a_bad_column_beside_it_does() -> None:
    calculation = Calculation(r=typed("v"), n=pl.col("n") + 1).with_schema({"v": "json", "n": "Int64"})
    found = check(calculation.spec_for(""), io.BytesIO(b'{"v":[],"n":"x"}\n{"v":{},"n":1}\n'))
    assert (found.summary.rejected, found.summary.lines_out) == (1, 1)
    assert [*found.summary.reject_reasons] == ["column `n`: expected an integer, found a string"]
    assert found.summary.schema["v"] == ("Json", "declared")


def test_it_can_be_decoded() -> None:
    whole = pl.col("v").str.json_decode(pl.Struct({"a": pl.Int64}))
    calculation = Calculation(r=whole.struct.field("a") + 1).with_schema({"v": "json"}).select()
    assert run(['{"v":{"a":1}}', '{"v":null}'], calculation) == [{"r": "2"}, {"r": None}]


def test_it_is_part_of_the_digest_and_of_what_is_pickled_and_resumed() -> None:
    calculation = copy("v")
    assert calculation.digest != copy("v", v="String").digest
    again = pickle.loads(pickle.dumps(calculation))
    assert again.digest == calculation.digest
    assert run(['{"v":[]}'], again) == [{"r": "[]"}]
    with calculation.stream(io.BytesIO(b'{"v":[]}\n')) as stream:
        list(stream)
    assert through_json(stream.state).columns == {"v": stream.state.columns["v"]}  # type: ignore[index]
    assert isinstance(read_type("Json"), Json)
    assert isinstance(parse_type("v", "json"), Json)


@pytest.mark.parametrize("text", ["List(json)", "Struct({'a': json})"])
def test_it_is_not_within_another_type(text: str) -> None:
    with pytest.raises(SchemaError, match="can't be declared as json: that is the type of a whole column"):
        copy("v", v=text)


def test_what_is_within_it_is_not_read_at_the_same_time() -> None:
    calculation = Calculation.from_sql("v.a + 1 AS r").with_schema({"v": "json"})
    with pytest.raises(SchemaError, match="`v` is declared as Json, which has no member `a`"):
        run(['{"v":{"a":1}}'], calculation)
