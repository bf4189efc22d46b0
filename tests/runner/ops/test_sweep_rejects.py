"""A sweep removes the objects of rejected lines that no index lists, and reads no more than it needs."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.aws.bucket import Store
from runner.ops.deployment import Deployment
from runner.ops.sweep import sweep
from runner.settings import Settings
from tests.simulation.s3_model import S3Model
from tests.support.fakes import LEAST, FakeClock, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR_S = 3600.0
AGE = timedelta(hours=2)


class Bucket:
    """An output bucket, and the requests to it."""

    def __init__(self) -> None:
        self.around = Surroundings.make()
        self.clock: FakeClock = self.around.clock
        self.clock.now = 1_800_000_000.0
        self.model = S3Model(self.clock.time)
        self.model.create_bucket("outgoing")
        self.requests: Counter[str] = Counter()
        self.before_delete: Callable[[], object] = bool
        self.pause_s = 10.0
        store = Store("outgoing", self)
        queue, context = cast("Any", None), self.around.context
        self.deployment = Deployment(Settings.read(LEAST), store, store, queue, context.around)

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        self.requests[operation] += 1
        if operation == "delete_object":
            act, self.before_delete = self.before_delete, bool
            act()
        return self.model.request(operation, **arguments)

    def read(self, bucket: str, key: str) -> tuple[dict[str, Any], bytes]:
        self.requests["get_object"] += 1
        answer = self.model.request("get_object", Bucket=bucket, Key=key)
        return answer, answer["Body"]

    def prepare_part(self) -> None:
        raise AssertionError

    def put(self, key: str, body: bytes = b"{}\n") -> None:
        self.model.request("put_object", Bucket="outgoing", Key=f"rejects/{key}", Body=body)
        self.clock.now += self.pause_s

    def checkpoint(self, job: str, body: bytes = b"{}") -> None:
        self.model.request("put_object", Bucket="outgoing", Key=f"checkpoints/{job}.json", Body=body)

    def index(self, folder: str, *names: str) -> None:
        self.put(
            f"{folder}/index.json", json.dumps({"objects": [f"rejects/{folder}/{name}" for name in names]}).encode()
        )

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        return [one.key.removeprefix("rejects/") for one in sweep(self.deployment, AGE, dry_run=dry_run)]

    def left(self) -> list[str]:
        return sorted(key.removeprefix("rejects/") for key in self.model.objects("outgoing"))


@pytest.mark.parametrize("pause_s", [0.0, 2.0, 3.0])
def test_what_one_attempt_has_written_just_before_its_index_is_not_even_read(pause_s: float) -> None:
    bucket = Bucket()
    bucket.put("a/1/00000001-w.jsonl")
    bucket.pause_s = pause_s
    bucket.put("a/1/00000002-w.jsonl")
    bucket.index("a/1", "00000001-w.jsonl", "00000002-w.jsonl")
    bucket.clock.now += 13 * HOUR_S
    assert bucket.sweep() == []
    assert bucket.requests["get_object"] == (pause_s > 2.0)


def test_what_an_index_does_not_list_that_took_effect_late_is_removed() -> None:
    """The index is of an attempt whose own objects were deleted when it was given up, and not of the one that died."""
    bucket = Bucket()
    bucket.put("a/1/00000001-dead.jsonl")
    bucket.index("a/1", "00000001-w.jsonl")
    bucket.clock.now += 13 * HOUR_S
    assert bucket.sweep() == ["a/1/00000001-dead.jsonl", "a/1/index.json"]


def test_an_index_that_took_effect_after_its_objects_were_deleted_is_removed_once_it_is_old() -> None:
    bucket = Bucket()
    bucket.index("a/1", "00000001-w.jsonl")
    bucket.put("b/2/00000001-dead.jsonl")
    bucket.index("b/2", "00000001-w.jsonl")
    bucket.index("c/3")  # more was rejected than is kept
    bucket.put("e/5/index.json", b'{"objects": ["rejects/f/5/00000001-w.jsonl"]}')  # of another program
    bucket.put("d/4/00000002-w.jsonl")
    bucket.clock.now += 60
    bucket.index("d/4", "00000001-w.jsonl", "00000002-w.jsonl")
    assert bucket.sweep() == []
    bucket.clock.now += 13 * HOUR_S
    void = ["a/1/index.json", "b/2/00000001-dead.jsonl", "b/2/index.json"]
    assert bucket.sweep(dry_run=True) == void
    assert bucket.sweep() == void
    assert bucket.left() == ["c/3/index.json", "d/4/00000002-w.jsonl", "d/4/index.json", "e/5/index.json"]


def test_an_index_that_is_written_meanwhile_stays() -> None:
    bucket = Bucket()
    bucket.index("a/1", "00000001-w.jsonl")
    bucket.clock.now += 13 * HOUR_S
    bucket.before_delete = lambda: bucket.index("a/1", "00000001-other.jsonl")
    assert bucket.sweep() == []
    assert bucket.left() == ["a/1/index.json"]


def test_the_index_of_a_job_with_a_checkpoint_stays() -> None:
    bucket = Bucket()
    bucket.index("a/1", "00000001-w.jsonl")
    bucket.clock.now += 13 * HOUR_S
    bucket.checkpoint("1")
    assert bucket.sweep() == []


def test_what_no_index_lists_is_removed_once_it_is_old() -> None:
    bucket = Bucket()
    bucket.put("a/1/00000001-w.jsonl")
    bucket.put("b/2/00000001-dead.jsonl")
    bucket.put("b/2/00000001-w.jsonl")
    bucket.index("b/2", "00000001-w.jsonl")
    bucket.put("c/3/notes.txt")
    assert bucket.sweep() == []
    bucket.clock.now += 13 * HOUR_S
    bucket.put("a/9/00000001-young.jsonl")
    assert bucket.sweep(dry_run=True) == ["a/1/00000001-w.jsonl", "b/2/00000001-dead.jsonl"]
    assert len(bucket.left()) == 6
    assert bucket.sweep() == ["a/1/00000001-w.jsonl", "b/2/00000001-dead.jsonl"]
    assert bucket.left() == ["a/9/00000001-young.jsonl", "b/2/00000001-w.jsonl", "b/2/index.json", "c/3/notes.txt"]


def test_an_object_that_came_after_the_index_is_removed() -> None:
    bucket = Bucket()
    bucket.index("a/1", "00000001-w.jsonl")
    bucket.put("a/1/00000001-w.jsonl")
    bucket.put("a/1/00000002-w.jsonl")
    bucket.clock.now += 13 * HOUR_S
    assert bucket.sweep() == ["a/1/00000002-w.jsonl"]


def test_the_rejected_lines_of_a_job_with_a_checkpoint_stay() -> None:
    bucket = Bucket()
    bucket.put("a/running/00000001-w.jsonl")
    bucket.put("a/waiting/00000001-w.jsonl")
    bucket.checkpoint("waiting")
    bucket.clock.now += 13 * HOUR_S
    bucket.checkpoint("running")
    swept = ["checkpoints/waiting.json", "a/waiting/00000001-w.jsonl"]
    assert bucket.sweep(dry_run=True) == swept
    assert bucket.sweep() == swept, "a checkpoint that was removed protects nothing"
    assert bucket.left() == ["a/running/00000001-w.jsonl", "checkpoints/running.json"]


def test_the_rejected_lines_of_a_job_that_is_resumed_meanwhile_stay() -> None:
    bucket = Bucket()
    bucket.put("a/1/00000001-w.jsonl")
    bucket.checkpoint("1")
    bucket.clock.now += 13 * HOUR_S
    bucket.before_delete = lambda: bucket.checkpoint("1", b"resumed")
    assert bucket.sweep() == []
    assert bucket.left() == ["a/1/00000001-w.jsonl", "checkpoints/1.json"]


def test_the_rejected_lines_of_a_job_that_ends_meanwhile_stay() -> None:
    """Its checkpoint is there when the sweep begins, and gone when the rejected lines are listed, or the reverse."""
    bucket = Bucket()
    bucket.put("a/1/00000001-dead.jsonl")
    bucket.put("a/1/00000001-w.jsonl")
    bucket.checkpoint("other")
    bucket.clock.now += 13 * HOUR_S
    bucket.before_delete = lambda: bucket.index("a/1", "00000001-w.jsonl")
    assert bucket.sweep() == ["checkpoints/other.json"]
    assert "a/1/00000001-w.jsonl" in bucket.left()


def test_the_old_rejected_lines_of_a_job_that_still_writes_some_stay() -> None:
    """A job that has no output yet has no checkpoint."""
    bucket = Bucket()
    bucket.put("a/1/00000001-w.jsonl")
    bucket.clock.now += 13 * HOUR_S
    bucket.put("a/1/00000002-w.jsonl")
    assert bucket.sweep() == []
    bucket.clock.now += 13 * HOUR_S
    assert bucket.sweep() == ["a/1/00000001-w.jsonl", "a/1/00000002-w.jsonl"]


def test_rejected_lines_that_a_running_job_may_have_written_stay() -> None:
    """It has no checkpoint while its output is smaller than a part, and writes no more while no line is rejected."""
    bucket = Bucket()
    bucket.put("a/1/00000001-w.jsonl")
    bucket.clock.now += 11 * HOUR_S
    assert AGE.total_seconds() < 11 * HOUR_S
    assert bucket.sweep() == []
    bucket.clock.now += 2 * HOUR_S
    assert bucket.sweep() == ["a/1/00000001-w.jsonl"]


OBJECTS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from("vw")), max_size=5, unique=True)


@given(before=OBJECTS, after=OBJECTS, listed=OBJECTS, indexed=st.booleans(), pause_s=st.sampled_from((1.0, 10.0)))
def test_what_an_index_lists_stays(
    before: list[tuple[int, str]],
    after: list[tuple[int, str]],
    listed: list[tuple[int, str]],
    indexed: bool,
    pause_s: float,
) -> None:
    """Where a single attempt has written all just before its index, the index lists all of them.

    The index itself stays if it lists nothing, or an object that exists.
    """
    bucket = Bucket()
    bucket.pause_s = pause_s
    for number, writer in before:
        bucket.put(f"a/1/{number:08}-{writer}.jsonl")
    single = len({writer for _, writer in before}) <= 1 and not after and pause_s <= 2.0
    names = [f"{number:08}-{writer}.jsonl" for number, writer in (before if single else listed)]
    if indexed:
        bucket.index("a/1", *names)
    for number, writer in after:
        bucket.put(f"a/1/{number:08}-{writer}.jsonl")
    bucket.clock.now += 13 * HOUR_S
    there = set(bucket.left())
    bucket.sweep()
    kept = {f"a/1/{name}" for name in names} if indexed else set()
    if indexed and (kept & there or not kept):
        kept.add("a/1/index.json")
    assert set(bucket.left()) == there & kept
