"""A run can be resumed from its state after any part, and gives what an uninterrupted run gives."""

from __future__ import annotations

import gzip
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.support.example import lines
from tests.support.places import ObjectPlace
from tests.support.stops import numbers_of, through_json
from transform import Calculation, InputError, RejectedError, S3Object, State, Summary, WidenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transform import Stream

INFERRED = Calculation.from_sql("a + 1 AS b")
WIDENING = lines(1500) + b'{"a":1.5}\n' + lines(100)
"""Types are inferred from fewer lines than the first of these."""

ONE_PROCESS: dict[str, Any] = {"workers": 1, "chunk_bytes": 2000}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "input.jsonl"


MIXED = b"\xef\xbb\xbf\n" + b"".join(
    (b'{"a":%d}\r\n', b'{"a":%d}\n', b'{"a":"%d"}\n', b"\n")[number % 4] % ((number,) * (number % 4 < 3))
    for number in range(200)
)
FILTERED = Calculation.from_sql("a + 1 AS b", "a > 20").with_schema({"a": pl.Int64()})


def used(stream: Stream) -> Iterator[tuple[State, bytes, bytes]]:
    """Use the parts of a stream; yield before each, and at the end, how far it has come and all it has given."""
    output, rejects = b"", b""
    for part in stream:
        yield stream.state, output, rejects
        output += b"".join(part.output)
        rejects += b"".join(part.rejects)
    yield stream.state, output, rejects


@pytest.mark.parametrize("kind", ["file", "gzip", "object", "inferred"])
def test_a_run_can_be_resumed_after_every_part(kind: str, source: Path, request: pytest.FixtureRequest) -> None:
    calculation = INFERRED if kind == "inferred" else FILTERED
    content = lines(1100) + b'{"a":"x"}\n' if kind == "inferred" else MIXED
    source.write_bytes(gzip.compress(content) if kind == "gzip" else content)
    location: Any = source
    if kind == "object":
        place = ObjectPlace(*(request.getfixturevalue(name) for name in ("s3", "bucket", "scratch")))
        place.put(content)
        location = S3Object(
            place.bucket, place.key, place.s3.head_object(Bucket=place.bucket, Key=place.key)["ETag"][1:-1]
        )
    options: dict[str, Any] = {"workers": 1, "chunk_bytes": len(content) // 12}
    with calculation.stream(location, **options) as stream:
        steps = list(used(stream))
    _, whole_output, whole_rejects = steps[-1]
    assert len(steps) > 10
    assert stream.summary.rejected == (1 if kind == "inferred" else 50)
    assert stream.summary.lines_in == content.count(b"\n")
    for state, output, rejects in steps:
        before = state.to_dict()
        with calculation.stream(location, through_json(state), **options) as again:
            *_, (_, rest, rejects_of_rest) = used(again)
        assert (output + rest, rejects + rejects_of_rest) == (whole_output, whole_rejects)
        assert numbers_of(again.summary) == numbers_of(stream.summary)
        assert state.to_dict() == before, "a state stays what it is"


def test_a_state_remembers_what_has_widened(source: Path) -> None:
    source.write_bytes(WIDENING)
    with suppress(WidenError), INFERRED.stream(source, **ONE_PROCESS) as stream:
        for _ in stream:
            pass
    state = through_json(stream.state.restarted("a", pl.Float64()))
    assert state.position is None
    with INFERRED.stream(source, state, **ONE_PROCESS) as stream:
        steps = list(used(stream))
    for state, output, _rejects in steps[1::7]:
        assert state.widened == {"a": pl.Float64()}, "or it would be in vain once another column widens"
        with INFERRED.stream(source, through_json(state)) as again:
            *_, (_, rest, _) = used(again)
        assert output + rest == steps[-1][1]
        assert again.summary.schema == {"a": ("Float64", "inferred")}


@pytest.mark.parametrize("options", [{"max_rejects": 50}, {"max_rejects": "34%"}], ids=repr)
def test_rejects_before_a_stop_count_after_it_at_every_part(options: dict[str, Any], source: Path) -> None:
    source.write_bytes(MIXED)
    with FILTERED.stream(source, workers=1, chunk_bytes=100) as stream:
        states = [state for state, *_ in used(stream)]
    fewer = {"max_rejects": 49} if options["max_rejects"] == 50 else {"max_rejects": "33%"}
    for state in states:
        with FILTERED.stream(source, through_json(state), **options) as again:
            list(used(again))
        if state.summary.bytes_in == len(MIXED) and "%" not in str(options):
            continue  # all are counted, and no line is left to be one too many
        with pytest.raises(RejectedError), FILTERED.stream(source, through_json(state), **fewer) as again:
            list(used(again))


def test_rejects_that_are_not_used_are_counted_all_the_same(source: Path) -> None:
    source.write_bytes(MIXED)
    with FILTERED.stream(source, **ONE_PROCESS) as stream:
        for _ in stream:
            pass
    assert (stream.summary.rejected, stream.state.summary.rejected) == (50, 50)
    with pytest.raises(RejectedError), FILTERED.stream(source, max_rejects=49, **ONE_PROCESS) as stream:
        for _ in stream:
            pass


@pytest.mark.parametrize("offset", [-1, 2**63, 10**30])
def test_a_position_that_no_file_has_is_told_in_a_line(offset: int, source: Path) -> None:
    source.write_bytes(lines(3))
    state = State.from_dict({"summary": Summary(bytes_in=offset).to_dict(), "widened": {}, "codec": None})
    said = rf"^{source}: can't be read from offset {offset} on: "
    with pytest.raises(InputError, match=said), INFERRED.stream(source, state) as stream:
        next(iter(stream))
