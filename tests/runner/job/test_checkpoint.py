"""A checkpoint tells how far a job has come, to this worker or the next, and to one of them at a time."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.aws.bucket import S3fsRequests, Store
from runner.errors import FencedError, StoreError
from runner.job.checkpoint import Checkpoint
from runner.job.progress import MAX_LEASE_S, JobProgress
from tests.support.memory import MemoryS3, refusal
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
    rejects_left_out=COUNTS,
    rejects_truncated=COUNTS,
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
PARTS = st.lists(st.tuples(TEXTS.filter(bool), COUNTS), max_size=5).map(
    lambda parts: tuple(UploadedPart(number, etag, size) for number, (etag, size) in enumerate(parts, 1))
)
NAMES = st.from_regex(r"[0-9]{8}-[0-9a-f]{1,32}\.jsonl", fullmatch=True)
PROGRESS = st.builds(
    JobProgress,
    TEXTS.filter(bool),
    PARTS,
    STATES,
    st.lists(NAMES, max_size=3).map(tuple),
    st.dictionaries(TEXTS, TEXTS),
    owner=TEXTS,
    lease_s=st.floats(0, MAX_LEASE_S),
    reject_bytes=COUNTS,
    sequencer=st.text("0123456789ABCDEF", max_size=64),
    modified=COUNTS,
    sent=COUNTS,
    first_sent=COUNTS,
    codec=st.sampled_from([None, "gzip", "zstd", "bz2", "xz"]),
    output=TEXTS,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
ONE = JobProgress(
    "upload", (UploadedPart(1, '"e1"', 5),), State(Summary(bytes_in=10)), ("00000001-w.jsonl",), {"job": "j"}
)


def after(number: int) -> JobProgress:
    """Return how far a job is after so many parts."""
    parts = tuple(UploadedPart(part, f'"e{part}"', 5) for part in range(1, number + 1))
    return JobProgress("upload", parts, State(Summary(bytes_in=10 * number)))


@pytest.fixture
def store(bucket: str, proxy: Proxy) -> Store:
    return Store(bucket, S3fsRequests.open({"AWS_ENDPOINT_URL": proxy.endpoint}))


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


@pytest.mark.parametrize(
    ("name", "value"), [("modified", 253_402_300_800_000), ("output", "x" * 1025), ("output", "\udc80"), ("output", 5)]
)
def test_a_date_or_an_output_key_that_cannot_be_is_no_checkpoint(name: str, value: Any) -> None:
    plain = json.loads(ONE.to_json())
    assert JobProgress.from_json(json.dumps(plain | {"modified": 253_402_300_799_999}).encode()).modified
    with pytest.raises(ValueError, match=r"no checkpoint|surrogates"):
        JobProgress.from_json(json.dumps(plain | {name: value}).encode())


def test_a_checkpoint_of_an_earlier_version_has_no_output_key() -> None:
    plain = json.loads(replace(ONE, output="output/a").to_json())
    assert JobProgress.from_json(json.dumps(plain).encode()).output == "output/a"
    del plain["output"]
    assert JobProgress.from_json(json.dumps(plain).encode()) == ONE


def mutate(plain: Any, data: st.DataObject) -> Any:
    """Return plain data with something in it, at any depth, replaced by something else or removed."""
    if isinstance(plain, dict) and plain and data.draw(st.integers(0, 5)):
        name = data.draw(st.sampled_from(sorted(plain)))
        rest = {other: value for other, value in plain.items() if other != name}
        return rest if not data.draw(st.integers(0, 5)) else {**rest, name: mutate(plain[name], data)}
    if isinstance(plain, list) and plain and data.draw(st.integers(0, 5)):
        index = data.draw(st.integers(0, len(plain) - 1))
        return [mutate(value, data) if at == index else value for at, value in enumerate(plain)]
    return data.draw(JSON)


def check_valid(progress: JobProgress) -> None:
    """Check what a job relies on, of a checkpoint that was read."""
    assert 0 <= progress.lease_s <= MAX_LEASE_S
    assert progress.upload
    assert [part.number for part in progress.parts] == [*range(1, len(progress.parts) + 1)]
    assert progress.reject_bytes >= 0
    assert progress.state.position is None or progress.state.position.offset == progress.state.summary.bytes_in > 0
    assert {type(count) for count in (progress.state.summary.lines_in, progress.state.summary.rejected)} == {int}
    assert isinstance(progress.state.columns, dict | None)
    assert JobProgress.from_json(progress.to_json()) == progress


@given(JSON)
def test_any_json_is_a_valid_checkpoint_or_none(plain: Any) -> None:
    with suppress(ValueError):
        check_valid(JobProgress.from_json(json.dumps(plain).encode()))


@given(PROGRESS, st.data())
def test_a_changed_checkpoint_is_valid_or_none(progress: JobProgress, data: st.DataObject) -> None:
    plain = mutate(json.loads(progress.to_json("somebody")), data)
    with suppress(ValueError):
        check_valid(JobProgress.from_json(json.dumps(plain).encode()))


WRONG: list[tuple[str, Any]] = [
    ("version", 2),
    ("codec", "rot13"),
    ("lease_s", 1e18),
    ("lease_s", -1),
    ("lease_s", float("nan")),
    ("lease_s", "60"),
    ("owner", None),
    ("owner", "o" * 1000),
    ("upload", ""),
    ("upload", 7),
    ("offset", 11),
    ("parts", [{"number": 2, "etag": "e", "size": 1}]),
    ("parts", [{"number": 1, "etag": "e", "size": -1}]),
    ("parts", [{"number": 1, "etag": "", "size": 1}]),
    ("parts", [{"number": number, "etag": "e", "size": 1} for number in range(1, 10_002)]),
    ("rejects", 2),
    ("rejects", ["../../other.jsonl"]),
    ("rejects", ["00000001-w.jsonl\n"]),
    ("reject_bytes", -1),
    ("modified", -1),
    ("sent", "soon"),
    ("state", {"summary": {}, "widened": {}, "codec": None}),
    ("state", {**State(Summary(bytes_in=10)).to_dict(), "codec": "rot13"}),
    ("state", {**State(Summary(bytes_in=10)).to_dict(), "widened": {"a": "Nothing"}}),
    ("state", State(Summary(bytes_in=10, lines_in=cast("int", "1"))).to_dict()),
    ("state", State(Summary(bytes_in=10, lines_in=-1)).to_dict()),
    ("state", State(Summary(bytes_in=10, notes=cast("list[str]", [1]))).to_dict()),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_checkpoint_with_a_wrong_value_is_none(name: str, value: Any) -> None:
    plain = json.loads(ONE.to_json())
    assert JobProgress.from_json(json.dumps(plain).encode()) == ONE
    with pytest.raises(ValueError):  # noqa: PT011 # whatever it says
        JobProgress.from_json(json.dumps({**plain, name: value}).encode())


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
    "another version": ONE.to_json().replace(b'"version": 3', b'"version": 2'),
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


def test_what_another_worker_has_taken_over_is_not_removed(store: Store) -> None:
    first, second = Checkpoint(store, KEY), Checkpoint(store, KEY)
    first.write(ONE)
    second.read()
    second.write(ONE)
    first.remove()
    assert noted(store) == ONE
    second.remove()
    assert noted(store) is None


def test_what_another_worker_has_written_since_it_was_read_is_not_removed(store: Store) -> None:
    first, second = Checkpoint(store, KEY), Checkpoint(store, KEY)
    first.write(ONE)
    second.read()
    first.write(after(2))
    second.remove()
    assert noted(store) == after(2)


@pytest.mark.parametrize("kms", [False, True], ids=["ETag of the content", "ETag of the write"])
def test_a_write_whose_answer_was_lost_is_known_to_be_of_this_worker(kms: bool) -> None:
    s3 = MemoryS3(etags_of_writes=kms)
    checkpoint = Checkpoint(Store("outgoing", s3), KEY)
    checkpoint.write(ONE)

    def lost(operation: str, _arguments: dict[str, Any]) -> None:
        if operation == "put_object":
            raise refusal(500, "InternalError")

    for end in ("written", "removed"):
        s3.after = lost
        with pytest.raises(StoreError):
            checkpoint.touch()
        with pytest.raises(StoreError):
            checkpoint.write(after(2))
        s3.after = lambda _operation, _arguments: None
        if end == "written":
            checkpoint.write(after(3))
            assert noted(Store("outgoing", s3)) == after(3)
        else:
            checkpoint.remove()
            assert s3.keys() == []


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
