"""A plain function, line by line: what it is given, what becomes of what it returns."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from tests.support import reference
from tests.support.reference import JsonArray, Spec
from tests.support.strategies import inputs
from tests.support.trial import attempt, lines
from tests.support.tuned import Tuned
from transform import LineFunction, TransformError

if TYPE_CHECKING:
    from pathlib import Path


def scored(json_obj: dict[str, Any]) -> dict[str, Any]:
    json_obj["review_score"] = float(json_obj["stars"]) * float(json_obj["review_count"])
    return json_obj


def same(json_obj: dict[str, Any]) -> dict[str, Any]:
    return json_obj


def test_it_does_what_the_per_line_loop_does() -> None:
    data = lines('{"stars": 4.50, "review_count": 8, "name": "Caf\\u00e9 \U0001f600"}', '{"review_count":2,"stars":1}')
    outcome = attempt(data, LineFunction(scored))
    assert outcome.rows == [scored(json.loads(line)) for line in data.splitlines()]
    assert any("line by line in Python, the slow way" in note for note in outcome.summary.notes)
    assert any("Calculation(" in note for note in outcome.summary.notes)


def test_a_line_for_which_it_raises_is_rejected_with_the_exception() -> None:
    outcome = attempt(
        lines('{"stars":1,"review_count":1}', '{"stars":1}', '{"stars":"x","review_count":1}'), LineFunction(scored)
    )
    assert len(outcome.rows) == 1
    assert outcome.reasons == [
        "the calculation failed: KeyError: 'review_count'",
        "the calculation failed: ValueError: could not convert string to float: 'x'",
    ]
    assert outcome.summary.reject_reasons["the calculation failed"].count == 2


def test_none_drops_the_line() -> None:
    outcome = attempt(lines('{"a":1}', '{"a":2}', '{"a":3}'), LineFunction(lambda o: o if o["a"] != 2 else None))
    assert outcome.output == b'{"a":1}\n{"a":3}\n'
    assert (outcome.summary.lines_in, outcome.summary.lines_out, outcome.summary.filtered) == (3, 2, 1)


@pytest.mark.parametrize("result", [1, "text", [1], {1, 2}])
def test_what_is_not_an_object_is_refused(result: object) -> None:
    outcome = attempt(lines('{"a":1}', '{"a":2}'), LineFunction(lambda o: o if o["a"] == 1 else result))
    assert outcome.reasons == [f"the calculation failed: it returned {type(result).__name__}, not an object or None"]


def test_what_json_has_no_place_for_is_refused() -> None:
    outcome = attempt(lines('{"a":1}', '{"a":2}'), LineFunction(lambda o: {"x": 1 if o["a"] == 1 else object()}))
    assert outcome.reasons[0].startswith("the calculation failed: its result cannot be written")


def test_line_ends_and_blank_lines_are_treated_as_ever() -> None:
    outcome = attempt(b'\xef\xbb\xbf{"a":1}\r\n\n \t\r\n{"a":2}\n{"a":3}', LineFunction(same))
    assert outcome.output == b'{"a":1}\r\n{"a":2}\n{"a":3}'
    assert outcome.summary.blank == 2


def test_a_lone_surrogate_and_a_huge_integer_come_through() -> None:
    line = '{"a":"\\ud83d","b":123456789012345678901234567890}'
    assert attempt(lines(line), LineFunction(same)).rows == [json.loads(line)]


def test_an_integer_that_python_does_not_read_is_rejected_not_raised() -> None:
    outcome = attempt(lines('{"a":1}', '{"a":' + "9" * 5000 + "}"), LineFunction(same))
    assert outcome.reasons[0].startswith("no Python value")


@settings(max_examples=200, deadline=None)
@given(data=inputs())
def test_the_same_lines_are_rejected_as_by_a_calculation_that_reads_nothing(data: bytes) -> None:
    """But for numbers that Python has no value for, which only a function that is given them all would notice."""
    try:
        expected = reference.transform(data, Spec({}))
    except JsonArray:
        return
    if not expected.lines_out:
        return
    # one line at least that nothing is wrong with, or the run fails
    outcome = attempt(data.rstrip(b"\n") + b"\n{}\n", LineFunction(same))
    expected = reference.transform(data.rstrip(b"\n") + b"\n{}\n", Spec({}))
    others = [r for r in outcome.rejects if not r["reason"].startswith(("no Python value", "the calculation failed"))]
    assert [(r["offset"], r["line"]) for r in others] == [(r.offset, r.line) for r in expected.rejects]
    assert outcome.summary.lines_out + len(outcome.rejects) - len(others) == expected.lines_out
    assert outcome.summary.blank == expected.blank


@pytest.mark.parametrize("workers", [2, 3])
def test_all_workers_take_part(workers: int, tmp_path: Path) -> None:
    source, target, other = tmp_path / "in", tmp_path / "out", tmp_path / "other"
    source.write_bytes(b"".join(b'{"stars":%d,"review_count":2}\n' % n for n in range(5000)) + b"bad\n{}\n")
    alone = LineFunction(scored).run(source, target, workers=1)
    together = Tuned(LineFunction(scored)).run(source, other, workers=workers, range_bytes=9000)
    assert target.read_bytes() == other.read_bytes()
    assert (tmp_path / "out.rejects.jsonl").read_bytes() == (tmp_path / "other.rejects.jsonl").read_bytes()
    assert alone.reject_reasons == together.reject_reasons


def test_preview_shows_lone_surrogates_as_question_marks() -> None:
    rows = LineFunction(lambda line: line).preview(
        io.BytesIO(b'{"a":"x\\ud83d","b":{"\\udc00":[1.50]}}\n{"a":"\xc3\xa9"}')
    )
    assert rows.rows() == [("x?", {"?": [1.5]}), ("é", None)]


def test_preview_shows_integers_beyond_128_bits_and_members_of_several_types() -> None:
    large, smallest = 2**130, -(2**127)

    def preview(*texts: object) -> list[tuple[object, ...]]:
        content = "\n".join(f'{{"a":{text}}}' for text in texts).encode()
        return LineFunction(lambda line: line).preview(io.BytesIO(content)).rows()

    assert preview(large) == [(str(large),)]
    assert preview(smallest, 2**64) == [(smallest,), (2**64,)]
    assert preview(f'{{"b":[{large}]}}') == [({"b": [str(large)]},)]
    assert preview(large, '"x"', smallest, "[1]") == [(str(large),), ('"x"',), (str(smallest),), ("[1]",)]


def test_preview_shows_the_objects(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(lines('{"stars":1,"review_count":3}', "bad", '{"stars":2,"review_count":3}'))
    frame = LineFunction(scored).preview(source, rows=1)
    assert frame.to_dicts() == [{"stars": 1, "review_count": 3, "review_score": 3.0}]


def test_a_run_in_which_every_line_fails_fails(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(lines("{}", "{}"))
    with pytest.raises(TransformError, match="every line was rejected"):
        LineFunction(scored).run(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def forgetful(json_obj: dict[str, Any]) -> None:
    json_obj["review_score"] = 1


@pytest.mark.parametrize("keep", [0, 1])
def test_a_function_that_returns_nothing_for_every_line_is_told(keep: int) -> None:
    function = (lambda json_obj: json_obj if json_obj["a"] < keep else None) if keep else forgetful
    outcome = attempt(lines(*(f'{{"a":{number}}}' for number in range(3))), LineFunction(function))
    told = [note for note in outcome.summary.notes if "returned None for every line" in note]
    assert len(told) == 1 - keep
    assert all(note.startswith("forgetful(…) ") for note in told)
