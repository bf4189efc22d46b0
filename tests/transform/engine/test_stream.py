"""A run that was stopped and gone on with gives what an uninterrupted one does, wherever it was stopped."""

from __future__ import annotations

import io
import os
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support import strategies
from tests.support.example import CALCULATION as EXAMPLE
from tests.support.example import lines, transformed
from tests.support.places import ObjectPlace
from tests.support.proxy import proxy_of
from tests.support.stops import numbers_of, stopped, through_json, uninterrupted
from tests.support.tuned import Tuned
from tests.support.typed import typed_sql
from transform import (
    Calculation,
    InputError,
    LineFunction,
    RejectedError,
    S3Object,
    SchemaError,
    SourceChangedError,
    State,
    WidenError,
)
from transform.decode.inference import SampleSize
from transform.io.compression import CODECS

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from transform.runnable import Runnable

SAMPLE_LINES = 3
FORMATS = {"plain": None, **{codec.name: codec for codec in CODECS}}
DECLARED = {"stars": pl.Float64, "count": pl.Int64, "open": pl.Boolean}


def tuned(calculation: Runnable, sample_lines: int = SAMPLE_LINES, *, only_processes: bool = False) -> Tuned:
    """Have types inferred from a few lines, so that a small input has more of them."""
    return Tuned(calculation, sample_size=SampleSize(sample_lines), only_processes=only_processes)


def of_line(json_obj: dict[str, Any]) -> dict[str, Any] | None:
    return {"n": json_obj["count"] + 1} if json_obj.get("open") is not False else None


CALCULATION = tuned(EXAMPLE)
PRODUCT = Calculation(score=pl.col("stars") * pl.col("count"), name=pl.lit(1))
UNTUNED: dict[str, Runnable] = {
    "declared": PRODUCT.with_schema({"stars": pl.Float64, "count": pl.Int64}),
    "inferred": PRODUCT,
    "filtered": Calculation.from_sql("stars / count AS x", "open OR count > 3").with_schema(DECLARED),
    "filtered and inferred": Calculation.from_sql(f"{typed_sql('name')} AS stars", "open"),
    "unchanged": Calculation.from_sql("name AS stars, count AS n", "open"),
    "nothing read": Calculation(one=pl.lit(1)).drop("name"),
    "selected": Calculation.from_sql("count + 1 AS id").with_schema({"count": pl.Int128}).select("stars", "name"),
    "line by line": LineFunction(of_line),
}
CALCULATIONS = {name: tuned(calculation) for name, calculation in UNTUNED.items()}
IN_PROCESSES = {name: tuned(calculation, only_processes=True) for name, calculation in UNTUNED.items()}
GOOD = b'{"stars":1.5,"count":2,"name":"a","open":true}'


def packed(content: bytes, format_name: str) -> bytes:
    """Return content compressed, as several streams where it is long enough."""
    codec = FORMATS[format_name]
    if codec is None:
        return content
    streams = []
    for part in (content[: len(content) // 2], content[len(content) // 2 :]):
        compressor = codec.compressor()
        streams.append(compressor.compress(part) + compressor.flush())
    return b"".join(streams)


@st.composite
def inputs(draw: DrawFn) -> bytes:
    """Draw lines of any sort, most often with some at their start that show the types of all columns."""
    start = draw(st.sampled_from([b"", strategies.BOM])) + draw(st.sampled_from([b"", b"\n \r\n", b"\n" * 30]))
    shown = draw(st.sampled_from([GOOD + b"\n", GOOD + b"\r\n", b"x\n" + GOOD + b"\n", b""]))
    return start + shown + draw(strategies.inputs())


stops = st.lists(st.integers(0, 6), min_size=1, max_size=4)
options: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"chunk_bytes": st.sampled_from([1, 40, 200, 1000, 1 << 16]), "workers": st.just(1)},
    optional={
        "on_error": st.just("fail"),
        "max_rejects": st.sampled_from([0, 1, 3, "10%", "60%"]),
        "max_line_bytes": st.sampled_from([60, strategies.SMALL_LIMIT_BYTES]),
    },
)


@pytest.mark.parametrize("name", CALCULATIONS)
@settings(max_examples=30, deadline=None)
@given(data=inputs(), stops=stops, options=options, format_name=st.sampled_from(["plain", *FORMATS]))
@example(data=b"\n" * 40 + b"[1]\n", stops=[2, 1], options={"chunk_bytes": 1}, format_name="plain")
@example(data=b"\n\nx\n\n", stops=[1, 1], options={"chunk_bytes": 1}, format_name="plain")
@example(data=strategies.BOM, stops=[0, 1], options={}, format_name="plain")
@example(data=b"", stops=[0, 1], options={}, format_name="zstd")
def test_what_was_stopped_gives_the_same(
    name: str, data: bytes, stops: list[int], options: dict[str, Any], format_name: str
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "input")
        source.write_bytes(packed(data, format_name))
        whole = uninterrupted(CALCULATIONS[name], source, Path(directory), **options)
        assert stopped(CALCULATIONS[name], source, stops, **options) == whole


def good_line(number: int) -> bytes:
    return b'{"stars":%d.5,"count":%d,"name":"%b","open":%b}' % (
        *(number % 5, number, b"x" * (number % 90)),
        (b"true", b"false", b"null")[number % 3],
    )


OTHER_LINES = (b"", b" ", b'{"count":"x"}', b'{"stars":1', b'{"count":1e400,"stars":2}', b'{"name":"\xff"}', b"{}")


def many_lines(count: int) -> bytes:
    """Return lines, one of nine of another sort, and of those some longer than most."""
    bodies = [
        good_line(number) if number % 9 else OTHER_LINES[number // 9 % len(OTHER_LINES)] for number in range(1, count)
    ]
    return strategies.BOM + b"".join(body + (b"\r\n", b"\n")[at % 2] for at, body in enumerate(bodies))


MANY = many_lines(600)


@pytest.mark.parametrize(
    ("name", "format_name", "stops", "range_bytes"),
    [
        pytest.param("declared", "plain", [5, 3], 1000, marks=pytest.mark.slow),
        ("inferred", "plain", [1], 777),
        ("filtered", "gzip", [2, 7], 1000),
        ("line by line", "plain", [11], 3000),
    ],
)
def test_what_several_processes_do_can_be_stopped(
    name: str, format_name: str, stops: list[int], range_bytes: int, tmp_path: Path
) -> None:
    source = tmp_path / "input"
    source.write_bytes(packed(MANY, format_name))
    whole = uninterrupted(CALCULATIONS[name], source, tmp_path, workers=1)
    assert whole.error is None
    several = {"workers": 2, "chunk_bytes": 500, "range_bytes": range_bytes}
    assert stopped(IN_PROCESSES[name], source, stops, **several) == whole


def test_one_may_go_on_with_what_several_have_begun(tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes(MANY)
    calculation = CALCULATIONS["declared"]
    whole = uninterrupted(calculation, source, tmp_path, workers=1)
    output, state = b"", State()
    for workers, range_bytes in ((2, 900), (1, 900), (2, 5000)):
        with calculation.stream(source, state, chunk_bytes=300, workers=workers, range_bytes=range_bytes) as stream:
            for part in islice(stream, 9):
                state = through_json(stream.state)
                output += b"".join(part.output)
        output = output[: state.summary.bytes_out]  # the last part is not in the state
    with calculation.stream(source, state) as stream:
        output += b"".join(data for part in stream for data in part.output)
    assert (output, numbers_of(stream.summary)) == (whole.output, whole.numbers)


@pytest.mark.parametrize("stop", [1, 4, 400])
def test_a_column_that_widens_after_the_stop_starts_the_run_again(stop: int, tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes(lines(20) + b'{"a":1.5}\nbad\n' + lines(20) + b'{"a":[1]}\n')
    calculation = tuned(Calculation.from_sql("a + 1 AS b"))
    whole = uninterrupted(calculation, source, tmp_path)
    assert whole.numbers
    assert whole.numbers["schema"] == {"a": {"type": "Float64", "from": "inferred"}}
    assert stopped(calculation, source, [stop, 1], chunk_bytes=50) == whole
    state = stopped_after(calculation, source, 4)
    with pytest.raises(WidenError) as caught, calculation.stream(source, state, chunk_bytes=50) as stream:
        list(stream)
    again = through_json(state.restarted(caught.value.name, caught.value.dtype))
    assert (again.position, again.columns, again.widened) == (None, None, {"a": pl.Float64()})


def test_a_nested_column_and_then_another_may_widen(tmp_path: Path) -> None:
    source = tmp_path / "input"
    first = b'{"a":[{"x":1}],"b":2}\n' * 10
    source.write_bytes(first + b'{"a":[{"x":1.5}],"b":2}\n' + first + b'{"a":[],"b":0.5}\n' + first)
    calculation = tuned(
        Calculation(s=pl.col("a").list.len() + pl.col("b"), t=pl.col("a").list.first().struct.field("x"))
    )
    whole = uninterrupted(calculation, source, tmp_path)
    assert whole.numbers
    assert [of["type"] for of in whole.numbers["schema"].values()] == ["List(Struct({'x': Float64}))", "Float64"]
    assert stopped(calculation, source, [3, 5, 2, 8], chunk_bytes=60) == whole


def stopped_after(calculation: Runnable, source: Any, parts: int, **options: Any) -> State:
    """Return the state of a run that has used so many parts."""
    with calculation.stream(source, **{"chunk_bytes": 50, **options}) as stream:
        for part in islice(stream, parts + 1):
            state = stream.state
            for _ in part.rejects:
                pass
    return through_json(state)


@pytest.mark.parametrize("rest", [b'{"b":1}\n', b'{"a":null}\n', b'{"a":"text"}\n', b"bad\n"])
def test_types_are_inferred_once(rest: bytes, tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes(lines(10) + 20 * rest)
    calculation = Calculation.from_sql("a + 1 AS b")
    whole = uninterrupted(tuned(calculation), source, tmp_path)
    state = stopped_after(tuned(calculation), source, 6)
    assert state.summary.bytes_in >= len(lines(10))
    unsampled = tuned(calculation, sample_lines=0)
    with pytest.raises(SchemaError), unsampled.stream(source) as stream:
        list(stream)
    with unsampled.stream(source, state, chunk_bytes=50) as stream:
        output = b"".join(data for part in stream for data in part.output)
    assert whole.output is not None
    assert output == whole.output[state.summary.bytes_out :]
    assert stream.summary.schema == {"a": ("Int128", "inferred")}


def test_the_state_stays_what_it_is_while_a_part_is_used(tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes((lines(3) + b"bad\n") * 5)
    with CALCULATION.stream(source, chunk_bytes=80, workers=1) as stream:
        states: list[tuple[State, dict[str, Any]]] = []
        for part in stream:
            before = stream.state.to_dict()
            states.append((stream.state, before))
            assert before["summary"]["rejected"] == stream.summary.rejected
            list(part.rejects)
            assert stream.state.to_dict() == before
    assert len(states) > 3
    assert all(state.to_dict() == plain for state, plain in states)
    assert [state.summary.lines_in for state, _ in states] == sorted({state.summary.lines_in for state, _ in states})


def test_rejects_that_nobody_takes_are_counted_all_the_same(tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes((lines(3) + b"bad\n") * 5)
    with CALCULATION.stream(source, chunk_bytes=80) as stream:
        for _ in stream:
            pass
    assert (stream.summary.rejected, stream.summary.lines_in) == (5, 20)


def test_rejects_before_the_stop_count_towards_the_most(tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes(b"bad\n" + lines(20) + b"worse\n" + lines(20))
    state = stopped_after(CALCULATION, source, 2, max_rejects=1)
    assert state.summary.rejected == 1
    for options in ({"max_rejects": 1}, {"on_error": "fail"}):
        with (
            pytest.raises(RejectedError, match=rf"^line 22 \(offset {4 + len(lines(20))}\) was rejected"),
            CALCULATION.stream(source, state, **options) as stream,
        ):
            list(stream)


def test_a_share_is_of_all_lines_and_not_of_those_after_the_stop(tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes(lines(20) + b"bad\n" * 3)
    whole = uninterrupted(CALCULATION, source, tmp_path, max_rejects="14%")
    assert whole.error is None
    state = stopped_after(CALCULATION, source, 8)
    assert state.summary.lines_in > 15
    with CALCULATION.stream(source, state, max_rejects="14%") as stream:
        list(stream)


def test_a_stop_after_the_last_part_leaves_nothing_to_do(tmp_path: Path) -> None:
    for format_name in FORMATS:
        source = tmp_path / "input"
        source.write_bytes(packed(lines(20), format_name))
        state = stopped_after(CALCULATION, source, 1000)
        with CALCULATION.stream(source, chunk_bytes=50) as stream:
            assert sum(1 for _ in stream) > 3
            state = through_json(stream.state)
        assert state.position is not None
        assert state.position.offset == len(lines(20))
        with CALCULATION.stream(source, state) as stream:
            assert list(stream) == []
            assert stream.summary.lines_out == 20


# --- inputs that are no longer what they were ----------------------------------------------------------------------

CONTENT = lines(200)
CHANGES = {
    "shorter": ("plain", CONTENT[:1000], "changed while it was read"),
    "gone": ("plain", None, "no such file"),
    "compressed": ("plain", packed(CONTENT, "gzip"), "is not what was read before"),
    "not compressed": ("gzip", CONTENT, "is not what was read before"),
    "in another format": ("gzip", packed(CONTENT, "zstd"), "is not what was read before"),
    "compressed and shorter": ("zstd", packed(CONTENT[:1000], "zstd"), "is not what was read before"),
    "truncated": ("xz", packed(CONTENT, "xz")[:-8], "xz data"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("workers", [1, 2])
def test_an_input_that_changed_since_the_stop_is_an_error(change: str, workers: int, tmp_path: Path) -> None:
    format_name, content, message = CHANGES[change]
    source = tmp_path / "input"
    source.write_bytes(packed(CONTENT, format_name))
    state = stopped_after(CALCULATION, source, 50)
    assert 1000 < state.summary.bytes_in < len(CONTENT)
    if content is None:
        source.unlink()
    else:
        source.write_bytes(content)
    with (
        pytest.raises(InputError, match=f"^{source}: .*{message}"),
        CALCULATION.stream(source, state, workers=workers, range_bytes=500) as stream,
    ):
        list(stream)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_file_with_a_wrong_name_can_be_gone_on_with(format_name: str, workers: int, tmp_path: Path) -> None:
    source = tmp_path / ("input.xz" if format_name != "xz" else "input.gz")
    source.write_bytes(packed(CONTENT, format_name))
    whole = uninterrupted(CALCULATION, source, tmp_path)
    assert whole.output == transformed(200)
    options = {"chunk_bytes": 500, "range_bytes": 500, "workers": workers}
    assert stopped(CALCULATION, source, [3, 2], **options) == whole


def test_what_can_be_read_once_only_cannot_be_gone_on_with(tmp_path: Path) -> None:
    source = tmp_path / "input"
    source.write_bytes(CONTENT)
    state = stopped_after(CALCULATION, source, 5)
    os.mkfifo(tmp_path / "fifo")
    for other in (tmp_path / "fifo", "-", io.BytesIO(CONTENT)):
        with pytest.raises(InputError, match="can't be resumed"), CALCULATION.stream(other, state):
            pass
    with CALCULATION.stream(io.BytesIO(CONTENT), State()) as stream:
        assert b"".join(data for part in stream for data in part.output) == transformed(200)


# --- objects -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(s3: Any, bucket: str, scratch: Path) -> ObjectPlace:
    return ObjectPlace(s3, bucket, scratch, "some/input.jsonl")


def pinned(place: ObjectPlace) -> S3Object:
    """Return an object as the version that is there."""
    etag = place.s3.head_object(Bucket=place.bucket, Key=place.key)["ETag"].strip('"')
    return S3Object(place.bucket, place.key, etag)


@pytest.mark.parametrize("format_name", ["plain", "gzip", "zstd"])
def test_an_object_can_be_gone_on_with(format_name: str, place: ObjectPlace, tmp_path: Path) -> None:
    place.put(packed(MANY, format_name))
    source = pinned(place)
    whole = uninterrupted(CALCULATIONS["inferred"], place.target, tmp_path)
    assert whole.error is None
    for stops in ([3, 2], [1000]):
        assert stopped(CALCULATIONS["inferred"], source, stops, chunk_bytes=3000) == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_of_an_object_only_what_is_left_is_asked_for(
    workers: int, place: ObjectPlace, aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put(MANY)
    source = pinned(place)
    calculation = IN_PROCESSES["declared"]
    state = stopped_after(calculation, source, 20, chunk_bytes=1000)
    assert state.position
    with proxy_of(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with calculation.stream(source, state, workers=workers, chunk_bytes=1000, range_bytes=2000) as stream:
            assert stream.headers["ContentType"]
            list(stream)
        assert stream.summary.bytes_in == len(MANY)
        starts = [request.first_byte for request in proxy.requests if request.operation == "GetObject"]
        assert {request.operation for request in proxy.requests} == {"GetObject", "HeadObject"}  # for its checksum
    # Whether a line starts at a range's start, the byte before tells.
    assert min(starts) >= state.position.offset - (workers > 1)
    assert (len(starts) > 1) == (workers > 1)


def test_an_object_that_was_overwritten_since_the_stop_is_an_error(place: ObjectPlace) -> None:
    place.put(CONTENT)
    source = pinned(place)
    state = stopped_after(CALCULATION, source, 50)
    for content in (CONTENT + b"\n", CONTENT[:100], packed(CONTENT, "gzip")):
        place.put(content)
        with pytest.raises(SourceChangedError, match="changed while it was read"), CALCULATION.stream(source, state):
            pass
    place.s3.delete_object(Bucket=place.bucket, Key=place.key)
    with pytest.raises(SourceChangedError, match="vanished while it was read"), CALCULATION.stream(source, state):
        pass


def test_an_object_of_any_version_that_is_now_shorter_is_an_error(place: ObjectPlace) -> None:
    place.put(CONTENT)
    state = stopped_after(CALCULATION, place.target, 50)
    place.put(CONTENT[:100])
    with pytest.raises(InputError, match="changed while it was read"), CALCULATION.stream(place.target, state) as run:
        list(run)
