"""A checkpoint tells how far a job has come, to this worker or the next, and to one of them at a time."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.aws.bucket import Store
from runner.errors import FencedError, StoreError
from runner.job.checkpoint import Checkpoint, JobProgress
from tests.support.proxy import Cut, Refuse
from transform import Calculation, Reason, State, Summary, UploadedPart

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.proxy import Fault, Proxy, Request

KEY = "checkpoints/some.json"
TYPES: list[pl.DataType] = [
    pl.Int128(),
    pl.Float64(),
    pl.List(pl.Struct({"a b": pl.Int128(), "c": pl.List(pl.Null())})),
    pl.Boolean(),
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNTS = st.integers(0, 1 << 46)
SUMMARIES = st.builds(
    Summary,
    source=TEXTS,
    lines_in=COUNTS,
    lines_out=COUNTS,
    bytes_in=COUNTS,
    reject_reasons=st.dictionaries(TEXTS, st.builds(Reason, COUNTS, COUNTS), max_size=3),
    first_rejects=st.lists(TEXTS, max_size=3),
    nonfinite=st.dictionaries(TEXTS, COUNTS, max_size=3),
    schema=st.dictionaries(
        TEXTS, st.tuples(st.sampled_from([str(dtype) for dtype in TYPES]), st.sampled_from(["declared", "inferred"]))
    ),
)
STATES = st.builds(
    State, SUMMARIES, st.dictionaries(TEXTS, st.sampled_from(TYPES), max_size=3), st.sampled_from([None, "gzip"])
)
PARTS = st.builds(UploadedPart, st.integers(1, 10_000), TEXTS, COUNTS)
PROGRESS = st.builds(
    JobProgress, TEXTS, st.lists(PARTS, max_size=5).map(tuple), STATES, COUNTS, st.dictionaries(TEXTS, TEXTS)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
ONE = JobProgress("upload", (UploadedPart(1, '"e1"', 5),), State(Summary(bytes_in=10)), 2, {"job": "j"})


def after(number: int) -> JobProgress:
    """Return how far a job is after so many parts."""
    parts = tuple(UploadedPart(part, f'"e{part}"', 5) for part in range(1, number + 1))
    return JobProgress("upload", parts, State(Summary(bytes_in=10 * number)))


@pytest.fixture
def store(bucket: str, proxy: Proxy) -> Store:
    return Store.open(bucket, {"AWS_ENDPOINT_URL": proxy.endpoint})


@given(PROGRESS)
def test_what_is_noted_is_read_again(progress: JobProgress) -> None:
    content = progress.to_json("somebody")
    assert JobProgress.from_json(content) == progress
    assert json.loads(content)["offset"] == progress.state.summary.bytes_in


def test_a_run_goes_on_from_what_was_noted(tmp_path: Any) -> None:
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"a":1.5,"s":"x","l":[{"k":1}]}\nbad\n' * 2000)
    calculation = Calculation.from_sql("a * 2 AS b, s || 'y' AS t")
    whole, again = [], []
    with calculation.stream(source, chunk_bytes=1 << 10, workers=1) as stream:
        for number, part in enumerate(stream):
            if number == 20:
                noted = JobProgress("upload", state=stream.state).to_json()
            piece = b"".join(bytes(data) for data in part.output)
            whole.append(piece)
            again += [piece] * (number < 20)
            rejects = [*part.rejects]
    with calculation.stream(source, JobProgress.from_json(noted).state, chunk_bytes=1 << 10, workers=1) as stream:
        for part in stream:
            again.append(b"".join(bytes(data) for data in part.output))
            last = [*part.rejects]
    assert b"".join(again) == b"".join(whole)
    assert last[-1] == rejects[-1], "lines are numbered on"


@given(JSON | PROGRESS.map(lambda progress: json.loads(progress.to_json())), st.data())
def test_what_is_no_checkpoint_is_said_to_be_none(plain: Any, data: st.DataObject) -> None:
    if isinstance(plain, dict) and plain:  # with one of its members another
        plain[data.draw(st.sampled_from(sorted(plain)))] = data.draw(JSON)
    with suppress(ValueError):
        JobProgress.from_json(json.dumps(plain).encode())


@given(st.binary())
def test_bytes_are_no_checkpoint(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # whatever it says
        JobProgress.from_json(content)


def noted(store: Store) -> JobProgress | None:
    return Checkpoint(store, KEY).read()


def test_it_is_written_read_and_removed(store: Store, s3: Any) -> None:
    checkpoint = Checkpoint(store, KEY)
    assert checkpoint.read() is None
    for number in range(3):
        checkpoint.write(after(number))
        assert noted(store) == after(number)
    checkpoint.remove()
    assert noted(store) is None
    assert "Contents" not in s3.list_objects_v2(Bucket=store.bucket)
    checkpoint.write(ONE)
    assert noted(store) == ONE


GARBAGE = {
    "nothing": b"",
    "no JSON": b"\xff\x00",
    "something else": b"[]",
    "an array without end": b"[" * 100_000,
    "another version": ONE.to_json().replace(b'"version": 1', b'"version": 2'),
    "a part of one": ONE.to_json()[:-10],
    "without parts": json.dumps({**json.loads(ONE.to_json()), "parts": None}).encode(),
    "of no state": json.dumps({**json.loads(ONE.to_json()), "state": {"widened": []}}).encode(),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_ignored_and_replaced(store: Store, s3: Any, content: bytes) -> None:
    s3.put_object(Bucket=store.bucket, Key=KEY, Body=content)
    checkpoint = Checkpoint(store, KEY)
    assert checkpoint.read() is None
    checkpoint.write(ONE)
    assert noted(store) == ONE


# Two workers


def test_who_goes_on_fences_off_whoever_was_there_before(store: Store) -> None:
    first, second = Checkpoint(store, KEY), Checkpoint(store, KEY)
    first.write(ONE)
    taken_over = second.read()
    assert taken_over == ONE
    second.write(taken_over)  # the same, so only by whom tells it from what was there
    with pytest.raises(FencedError, match="another worker"):
        first.write(after(2))
    with pytest.raises(FencedError):
        first.write(taken_over)
    second.write(after(2))
    assert noted(store) == after(2)


def test_two_that_begin_at_once_are_one_too_many(store: Store) -> None:
    first, second = Checkpoint(store, KEY), Checkpoint(store, KEY)
    assert first.read() is second.read() is None
    first.write(ONE)
    with pytest.raises(FencedError):
        second.write(ONE)
    first.write(after(2))


def test_two_that_take_over_at_once_are_one_too_many(store: Store) -> None:
    Checkpoint(store, KEY).write(ONE)
    first, second = Checkpoint(store, KEY), Checkpoint(store, KEY)
    assert first.read() == second.read() == ONE
    first.write(ONE)
    with pytest.raises(FencedError):
        second.write(ONE)
    first.write(after(2))


@pytest.mark.parametrize("written_before", [False, True])
def test_whose_job_has_ended_is_fenced_off(store: Store, written_before: bool) -> None:
    first, second = Checkpoint(store, KEY), Checkpoint(store, KEY)
    first.write(ONE)
    second.read()
    if written_before:
        second.write(ONE)
    second.remove()
    with pytest.raises(FencedError):
        first.write(after(2))
    assert noted(store) is None


def test_removing_what_is_gone_or_was_never_there_is_no_error(store: Store) -> None:
    first, second = Checkpoint(store, KEY), Checkpoint(store, KEY)
    first.remove()
    first.write(ONE)
    second.read()
    second.remove()
    first.remove()


# What S3 answers


def once(fault: Fault) -> Callable[[Request], Fault | None]:
    """Return a rule under which one write fails."""
    left = [fault]
    return lambda request: left.pop() if left and request.operation == "PutObject" else None


@pytest.mark.parametrize("before", [None, ONE, after(2)], ids=["nothing", "another", "the same"])
@pytest.mark.parametrize("passed_on", [True, False])
def test_a_write_whose_answer_is_lost_is_recognised(
    store: Store, proxy: Proxy, before: JobProgress | None, passed_on: bool
) -> None:
    checkpoint = Checkpoint(store, KEY)
    if before is not None:
        checkpoint.write(before)
    proxy.rule = once(Cut(passed_on=passed_on))
    checkpoint.write(after(2))
    assert noted(store) == after(2)
    checkpoint.write(after(3))
    assert noted(store) == after(3)


def test_a_lost_answer_is_not_taken_for_that_to_somebody_else(store: Store, proxy: Proxy) -> None:
    first, second = Checkpoint(store, KEY), Checkpoint(store, KEY)
    first.write(ONE)
    second.read()

    def rule(request: Request) -> Fault | None:
        if request.operation != "PutObject":
            return None
        proxy.rule = lambda _: None
        second.write(after(2))
        return Cut(passed_on=True)

    proxy.rule = rule
    with pytest.raises(FencedError):
        first.write(after(2))
    second.write(after(3))


def test_what_s3_fails_to_do_is_no_fence(store: Store, proxy: Proxy) -> None:
    checkpoint = Checkpoint(store, KEY)
    for fault in (Refuse(500, "InternalError"), Refuse(409, "ConditionalRequestConflict")):
        proxy.rule = once(fault)
        with pytest.raises(StoreError):
            checkpoint.write(ONE)
        checkpoint.write(ONE)
    assert noted(store) == ONE
