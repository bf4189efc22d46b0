"""The reason for which a line is rejected leads to the cause, and equal causes are counted as one."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.reference import Rejected, Spec, parse
from tests.support.strategies import lines
from transform import Calculation, InputError, RejectedError, SchemaError
from transform.decode.inference import take_sample
from transform.decode.line_errors import LineError
from transform.decode.members import read_members
from transform.io.chunks import read_chunks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Command

# Of each cause: lines, words of the reason, and the byte that it names, if any. `VALUE` stands for any value.
JSON = "not valid JSON: "
CAUSES: dict[str, tuple[str, list[tuple[bytes, int | None]]]] = {
    "comma after": (JSON + "a comma after the object", [(b'{"a":"VALUE"},', 13), (b'{"a":1} , \r', 8)]),
    "several": (
        JSON + "several objects on one line (which --format json",
        [(b"{}{}", 2), (b'{"a":1} {"a":VALUE}', 8), (b'{"a":1},{"a":2}', 7), (b'{};{"VALUE":1}', 2)],
    ),
    "CR": (JSON + r"lines that end with CR alone (`tr '\r' '\n'`", [(b"{}\r{}\r", 3), (b'{"a":1}\r\r{"VALUE":2}', 9)]),
    "text after": (JSON + "text after the object", [(b"{} VALUE", 3), (b"{}]", 2), (b"{}}", 2), (b"{};", 2)]),
    "comment": (
        JSON + "a comment",
        [(b"// VALUE", 0), (b"# VALUE", 0), (b'{"a":1} // x', 8), (b'{"a":1/*VALUE*/}', 6), (b'{#x\r"a":1}', 1)],
    ),
    "cut": (JSON + "an object that is not closed", [(b"{", None), (b'{"a":"VALUE"', None), (b'{"a":"VALUE', None)]),
    "array": (JSON + "an array that is not closed (JSON lines", [(b'[{"VALUE":1},', None), (b"[", None)]),
    "an array": ("not a JSON object: array; JSON lines have one object on each line", [(b"[1]", None)]),
    "not finite": (
        JSON + "NaN or an infinity, which JSON does not have (write null)",
        [
            *((b'{"a":%s}' % word, 5) for word in (b"NaN", b"Infinity", b"inf", b"INF")),
            *((b'{"a":-%s}' % word, 6) for word in (b"Infinity", b"NaN", b"inf")),
            (b'{"a":nan}', 6),
            (b'{"VALUE":[1,{"b":NaN}]}', 17),
            (b"NaN", 0),
        ],
    ),
    "literal": (
        JSON + "True, None or the like (JSON has true, false and null)",
        [(b'{"a":%s}' % word, 5) for word in (b"True", b"False", b"None", b"NULL", b"undefined")],
    ),
    "quotes": (
        JSON + 'quotes other than " (JSON has only double quotes)',
        [(b"{'VALUE':1}", 1), (b"{\"a\":'VALUE'}", 5), ("{“a”:1}".encode(), 1), (b"{\"a\":1,'b':2}", 7)],
    ),
    "name": (JSON + "a name without double quotes", [(b"{VALUE:1}", 1), (b'{"a":1,$b:2}', 7), (b"{1:2}", 1)]),
    "word": (
        JSON + "text without double quotes",
        [(b'{"a":VALUE}', 5), (b'{"a":2024-01-01}', 9), (b'{"a":12abc}', 7), (b'{"a":tru}', 6)],
    ),
    "trailing comma": (
        JSON + "a comma without a member or an element next to it",
        [(b'{"a":1,}', 7), (b'{"a":[1,]}', 8), (b"{,}", 1), (b'{"a":1,,"b":2}', 7), (b'{"a":[,1]}', 6)],
    ),
    "no value": (JSON + "a value is missing after a colon", [(b'{"a":}', 5), (b'{"a": ,"b":1}', 6)]),
    "separator": (
        JSON + r"a comma or a bracket is missing, or a quote within a string is not escaped as \"",
        [(b'{"a":1 "b":2}', 7), (b'{"a":[1 2]}', 8), (b'{"a":[1,2}', 9), (b'{"a":"x"VALUE"}', 8), (b'{"a":1]', 6)],
    ),
    "colon": (JSON + "a colon is missing after a name", [(b'{"a" 1}', 5), (b'{"a"=1}', 4), (b'{"a"}', 4)]),
    "number": (
        JSON + "a number that JSON does not have",
        [(b'{"a":01}', 6), (b'{"a":+1}', 5), (b'{"a":.5}', 5), (b'{"a":1.}', 7), (b'{"a":-}', 6), (b'{"a":1e}', 7)],
    ),
    "escape": (JSON + "an escape that JSON does not have", [(rb'{"a":"\x"}', 7), (rb'{"a":"C:\VALUE"}', 9)]),
    "control": (
        JSON + "a control character in a string",
        [(b'{"a":"VALUE\t"}', 11), (b'{"a\x00":1}', 3), (b'{"a":"\x1f"}', 6), (b'{"a":"\r"}', 6)],
    ),
    "mark": (JSON + "a byte order mark at its start", [(b"\xef\xbb\xbf{}", 0), (b' \xef\xbb\xbf{"VALUE":1}', 1)]),
    "mark within": (JSON + "a byte order mark within it", [(b'{}\xef\xbb\xbf{"VALUE":1}', 2)]),
    "NUL": (JSON + "NUL bytes", [(b"\0\0\0", 0), (b'\0\0{"a":1}', 0)]),
    "record": (JSON + r"a record separator at its start (`tr -d '\036'`", [(b'\x1e{"VALUE":1}', 0)]),
    "surrogate beside": (JSON + "NaN", [(rb'{"a":"\ud83d","b":NaN}', 18)]),
    "wide": (
        JSON + "text in UTF-16 or UTF-32 (`iconv -f UTF-16 -t UTF-8`",
        [
            *(('{"VALUE":1}'.encode(codec), None) for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
            ('\n{"VALUE":1}'.encode("utf-16-le")[1:], None),
        ],
    ),
    "wide, not ASCII": (
        "not valid UTF-8: text in UTF-16 or UTF-32 (`iconv -f UTF-16 -t UTF-8`",
        [*(('{"é":"VALUE"}'.encode(f"utf-{codec}"), None) for codec in ("16", "16-le", "16-be", "32-be"))],
    ),
    "Latin-1": (
        "not valid UTF-8: a byte of another encoding (if that is Latin-1, `iconv -f LATIN1 -t UTF-8` converts it): "
        "byte 2 of the line is 0xE9",
        [(b'{"\xe9":"VALUE"}', None), (b'{"\xe9t\xe9"', None)],
    ),
    "cut character": (
        "not valid UTF-8: a character of which bytes are missing (the line was cut off): byte 6 of the line is 0xE2",
        [(b'{"a":"\xe2\x82', None)],
    ),
}  # fmt: skip
CASES = [(cause, line) for cause, (_, cases) in CAUSES.items() for line, _ in cases]


def reason_of(line: bytes) -> LineError:
    with pytest.raises(LineError) as caught:
        read_members(line)
    return caught.value


@pytest.mark.parametrize("cause", CAUSES)
def test_the_reason_names_the_cause_and_the_place(cause: str) -> None:
    words, cases = CAUSES[cause]
    for line, place in cases:
        reason = str(reason_of(line))
        assert reason.startswith(words), line
        assert place is None or reason.endswith(f": byte {place} of the line"), (line, reason)
        assert "\n" not in reason


@pytest.mark.parametrize(("cause", "line"), CASES)
def test_equal_causes_are_counted_as_one_whatever_the_values(cause: str, line: bytes) -> None:
    kinds = {reason_of(one).kind for one, _ in CAUSES[cause][1]}
    kinds |= {reason_of(line.replace(b"VALUE", value)).kind for value in (b"zq7x9", b"W")}
    assert len(kinds) == 1


@given(lines() | st.text("{}[]\",:-+.'# /\\\t\ufeff\0aNn1é", max_size=12).map(str.encode))
def test_only_lines_that_are_no_json_objects_are_rejected(data: bytes) -> None:
    for line in data.split(b"\n"):
        try:
            parse(line, Spec({}))
        except Rejected:
            error = reason_of(line)
            assert str(error).startswith(error.kind)
        else:
            read_members(line)


def test_an_input_without_any_object_says_why() -> None:
    sample, _ = take_sample(read_chunks(io.BytesIO(b'{"a":1},\n{"a":2},\n').readinto))
    with pytest.raises(
        SchemaError, match=r"holds a JSON object \(not valid JSON: a comma after the object .*; is this"
    ):
        sample.check_holds_lines()
    with pytest.raises(RejectedError, match=r"every line was rejected \(2 × not valid JSON: NaN"):
        Calculation.from_sql("1 AS b").run(io.BytesIO(b'{"a":NaN}\n{"a":NaN}\n'), io.BytesIO())


MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
MARKS |= {"utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE}
TEXT = '{"a":1}\n{"a":2}\n'


@pytest.mark.parametrize("codec", MARKS)
@pytest.mark.parametrize("chunk_bytes", [1, 3, 5, 4 << 20])
def test_text_in_utf_16_or_utf_32_fails_at_once(codec: str, chunk_bytes: int) -> None:
    for text in (TEXT, " \r\n" + TEXT, "[1]"):
        plain = text.encode(codec)
        for data, named in (
            (plain, codec.upper().replace("-LE", "LE").replace("-BE", "BE")),
            (MARKS[codec] + plain, codec.upper()[:6]),
        ):
            with pytest.raises(InputError, match=f"^the input is text in {named}, .* iconv -f {named} -t UTF-8$"):
                next(read_chunks(io.BytesIO(data).readinto, chunk_bytes))


@pytest.mark.parametrize("start", [b"\0\0\0\0", b"{\0", b'\0{"', b"\xff", b"\xfe\xfe", b"\0\0\0{}", b"\0"])
def test_other_bytes_at_the_start_reject_their_line_only(start: bytes) -> None:
    output = io.BytesIO()
    summary = Calculation.from_sql("a AS b").run(io.BytesIO(start + b'\n{"a":1}\n'), output)
    assert (summary.rejected, output.getvalue()) == (1, b'{"a":1,"b":1}\n')


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("as_stream", [True, False])
def test_a_run_of_it_leaves_nothing(tmp_path: Path, compress: Callable[[bytes], bytes], *, as_stream: bool) -> None:
    source = tmp_path / "in"
    source.write_bytes(compress(TEXT.encode("utf-16")))
    with pytest.raises(InputError, match="iconv -f UTF-16 -t UTF-8"), source.open("rb") as stream:
        Calculation.from_sql("a AS b").run(stream if as_stream else source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_command_tells_what_to_do(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(TEXT.encode("utf-16"))
    for args in (("run", tmp_path / "in.jsonl", tmp_path / "out", "-e", "a AS b"), ("schema", tmp_path / "in.jsonl")):
        result = command(*args)
        assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
        assert b"iconv -f UTF-16 -t UTF-8" in result.stderr
    (tmp_path / "in.jsonl").write_bytes(b'{"a":1},\n{"a":2}\n')
    result = command("run", tmp_path / "in.jsonl", tmp_path / "out", "-e", "a AS b")
    assert b"1 not valid JSON: a comma after the object" in b" ".join(result.stderr.split())
    kept = json.loads((tmp_path / "out.rejects.jsonl").read_bytes())
    assert kept["reason"].startswith("not valid JSON: a comma after the object")
