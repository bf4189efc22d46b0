"""Reads of an object are retried, run ahead of the transformation, and always give one version."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.example import BIG, BIG_TRANSFORMED, CALCULATION, lines, transformed, wait_until
from tests.support.places import OLD, ObjectPlace
from tests.support.proxy import Cut, Hold, Refuse, Shorten
from transform import InputError, S3Object, SourceChangedError, State, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.proxy import Fault, Proxy, Request

MIB = 1 << 20
SMALL, SMALL_TRANSFORMED = lines(50), transformed(50)


@pytest.fixture
def source(s3: Any, bucket: str, scratch: Path) -> ObjectPlace:
    place = ObjectPlace(s3, bucket, scratch, "some/input.jsonl")
    place.put(SMALL)
    return place


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the output goes, with one of an earlier run."""
    path = tmp_path / "output.jsonl"
    path.write_bytes(OLD)
    return path


def of_reads(fault: Fault, numbers: Callable[[int], bool] = lambda _number: True) -> Callable[[Request], Fault | None]:
    """Return a rule under which some reads fail, by their numbers from 1 on; or all."""
    return lambda request: fault if request.operation == "GetObject" and numbers(request.number) else None


def version_of(place: ObjectPlace, size: int | None = None) -> S3Object:
    """Return an object as the version that is there."""
    etag = place.s3.head_object(Bucket=place.bucket, Key=place.key)["ETag"].strip('"')
    return S3Object(place.bucket, place.key, etag, size)


def ranges(proxy: Proxy) -> list[str]:
    """Return which ranges were asked for."""
    return [request.range for request in proxy.requests if request.operation == "GetObject"]


# --- retries -------------------------------------------------------------------------------------------------------

CUT_SHORT = {"with a length": Shorten(honest=True), "without a length": Shorten(honest=False)}


@pytest.mark.parametrize("kind", CUT_SHORT)
@pytest.mark.parametrize("times", [1, 2])
def test_a_body_that_is_cut_short_is_read_again(
    times: int, kind: str, source: ObjectPlace, proxy: Proxy, output: Path
) -> None:
    proxy.rule = of_reads(CUT_SHORT[kind], lambda number: number <= times)
    summary = CALCULATION.run(source.target, output)
    assert output.read_bytes() == SMALL_TRANSFORMED
    assert summary.lines_in == 50
    assert len(ranges(proxy)) == times + 1
    assert len(set(ranges(proxy))) == 1, "the same range is asked for"


@pytest.mark.parametrize("kind", CUT_SHORT)
def test_a_body_of_known_size_that_is_cut_short_is_read_again(
    kind: str, source: ObjectPlace, proxy: Proxy, output: Path
) -> None:
    proxy.rule = of_reads(CUT_SHORT[kind], lambda number: number == 1)
    CALCULATION.run(version_of(source, len(SMALL)), output)
    assert output.read_bytes() == SMALL_TRANSFORMED
    assert ranges(proxy)[0] == "", "what is small is asked for whole"


def test_a_later_range_that_is_cut_short_is_read_again(source: ObjectPlace, proxy: Proxy, output: Path) -> None:
    source.put(BIG)
    proxy.rule = of_reads(CUT_SHORT["without a length"], lambda number: number == 2)
    CALCULATION.run(source.target, output, workers=1)
    assert output.read_bytes() == BIG_TRANSFORMED
    assert len(ranges(proxy)) == 3
    assert ranges(proxy)[1] == ranges(proxy)[2] != ranges(proxy)[0]


@pytest.mark.parametrize("fault", [Refuse(403, "AccessDenied"), Refuse(404, "NoSuchKey")], ids=repr)
def test_a_refusal_is_not_tried_again(fault: Refuse, source: ObjectPlace, proxy: Proxy, output: Path) -> None:
    proxy.rule = of_reads(fault)
    with pytest.raises(InputError, match=f"^{source.target}: ") as caught:
        CALCULATION.run(source.target, output)
    assert not isinstance(caught.value, UnavailableError | SourceChangedError)
    assert len(ranges(proxy)) == 1
    assert output.read_bytes() == OLD


ONCE = [Refuse(500, "InternalError"), Refuse(503, "SlowDown"), Cut(passed_on=False), Cut(passed_on=True)]


@pytest.mark.parametrize("fault", ONCE, ids=repr)
def test_a_single_failure_of_s3_is_retried(
    fault: Fault, source: ObjectPlace, proxy: Proxy, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")  # botocore tries some of these again, and s3fs others
    proxy.rule = of_reads(fault, lambda number: number == 1)
    CALCULATION.run(source.target, output)
    assert output.read_bytes() == SMALL_TRANSFORMED


# --- one version ---------------------------------------------------------------------------------------------------


def cut_then(change: Callable[[], None], number: int) -> Callable[[Request], Fault | None]:
    """Return a rule under which a read is cut short, and the object then changes before it is tried again."""

    def rule(request: Request) -> Fault | None:
        if request.number == number:
            return CUT_SHORT["with a length"]
        if request.number == number + 1:
            change()
        return None

    return rule


@pytest.mark.parametrize("pinned", [True, False], ids=["a version", "whatever is there"])
def test_an_object_that_is_overwritten_before_a_retry_is_never_mixed(
    pinned: bool, source: ObjectPlace, proxy: Proxy, output: Path
) -> None:
    location = version_of(source) if pinned else source.target
    proxy.rule = cut_then(lambda: source.put(lines(60, first=1000)), 1)
    if pinned:
        with pytest.raises(SourceChangedError, match=f"^{source.target}: changed while it was read"):
            CALCULATION.run(location, output)
        assert output.read_bytes() == OLD
    else:
        CALCULATION.run(location, output)
        assert output.read_bytes() == transformed(60, first=1000), "nothing of the old one had been used"


@pytest.mark.parametrize("there", [lines(60), None], ids=["overwritten", "deleted"])
def test_an_object_that_changes_before_a_later_range_is_retried_fails_the_run(
    there: bytes | None, source: ObjectPlace, proxy: Proxy, output: Path
) -> None:
    source.put(BIG)

    def change() -> None:
        if there is not None:
            source.put(there)
        else:
            source.s3.delete_object(Bucket=source.bucket, Key=source.key)

    proxy.rule = cut_then(change, 2)
    with pytest.raises(SourceChangedError, match=f"^{source.target}: .* while it was read; nothing was published$"):
        CALCULATION.run(source.target, output, workers=1)
    assert output.read_bytes() == OLD


def test_a_resumed_run_reads_the_same_version(source: ObjectPlace, proxy: Proxy) -> None:
    location = version_of(source)
    state = State()
    with CALCULATION.stream(location, state, chunk_bytes=500, workers=1) as stream:
        parts = iter(stream)
        for _ in range(2):
            next(parts)
        state = stream.state
    source.put(SMALL.replace(b"pad", b"PAD"))
    with pytest.raises(SourceChangedError), CALCULATION.stream(location, state):
        pass
    reads = [request for request in proxy.requests if request.operation == "GetObject"]
    assert [request.first_byte for request in reads] == [0, state.summary.bytes_in]


# --- reading ahead -------------------------------------------------------------------------------------------------

PAD_BYTES = 200_000
LARGE = lines(345, PAD_BYTES)
"""66 MiB: four ranges and a little more."""


def test_ranges_are_asked_for_before_they_are_needed_and_not_too_many(source: ObjectPlace, proxy: Proxy) -> None:
    source.put(LARGE)
    output = bytearray()
    with CALCULATION.stream(source.target, workers=1) as stream:
        for part in stream:
            output += b"".join(part.output)
            position = stream.position[0]
            if position <= 8 * MIB:
                assert len(ranges(proxy)) == 1, "a short object may end here"
            if 18 * MIB < position <= 30 * MIB:
                wait_until(lambda: len(ranges(proxy)) >= 4)
                assert len(ranges(proxy)) == 4, "two ahead of the second; each takes memory"
    assert bytes(output) == transformed(345, PAD_BYTES)
    starts = sorted(request.first_byte for request in proxy.requests if request.operation == "GetObject")
    assert len(starts) == 5, "each range is asked for once"
    assert starts[0] == 0
    assert {later - earlier for earlier, later in pairwise(starts)} == {starts[1]}, "none overlaps another"
    assert starts[1] >= 16 * MIB


def test_ranges_that_arrive_out_of_order_are_used_in_order(source: ObjectPlace, proxy: Proxy, output: Path) -> None:
    source.put(LARGE)
    late, reached = threading.Event(), threading.Event()
    third = 2 * (16 * MIB)

    def rule(request: Request) -> Fault | None:
        if third <= request.first_byte < third + 2 * MIB:
            return Hold(reached, late)
        if request.first_byte > third + 2 * MIB:
            late.set()
        return None

    proxy.rule = rule
    CALCULATION.run(source.target, output, workers=1)
    assert reached.is_set()
    assert output.read_bytes() == transformed(345, PAD_BYTES)


def test_a_range_read_ahead_that_failed_fails_the_run_that_needs_it(
    source: ObjectPlace, proxy: Proxy, output: Path
) -> None:
    source.put(LARGE)
    proxy.rule = lambda request: Refuse(403, "AccessDenied") if request.first_byte > 20 * MIB else None
    with pytest.raises(InputError, match=f"^{source.target}: access denied"):
        CALCULATION.run(source.target, output, workers=1)
    assert output.read_bytes() == OLD


# --- where it is gone on with --------------------------------------------------------------------------------------


def through_json(state: State) -> State:
    """Return a state as another process would find it."""
    return State.from_dict(json.loads(json.dumps(state.to_dict())))


def test_a_resumed_run_reads_only_from_its_offset_on(source: ObjectPlace, proxy: Proxy) -> None:
    location = version_of(source)
    with CALCULATION.stream(location, chunk_bytes=300, workers=1) as stream:
        states = [stream.state for _ in stream] + [stream.state]
    assert len(states) > 3
    for state in map(through_json, states[1:]):
        offset = state.summary.bytes_in
        before = len(proxy.requests)
        with CALCULATION.stream(location, state) as stream:
            rest = b"".join(data for part in stream for data in part.output)
        assert rest == SMALL_TRANSFORMED[state.summary.bytes_out :]
        first, *others = proxy.requests[before:]
        assert first.first_byte == offset
        assert [request.operation for request in others] == ["HeadObject"], "for its checksum"


@pytest.mark.parametrize("size", [0, 1], ids=["empty", "of one byte"])
def test_an_empty_or_tiny_object_is_read(size: int, source: ObjectPlace, proxy: Proxy, output: Path) -> None:
    source.put(b"\n" * size)
    empty = Refuse(416, "InvalidRange")  # which AWS answers to any range of an empty object
    proxy.rule = lambda request: empty if request.operation == "GetObject" and not size else None
    summary = CALCULATION.run(source.target, output)
    assert (summary.lines_in, summary.bytes_in) == (size, size)
    assert output.read_bytes() == b""
