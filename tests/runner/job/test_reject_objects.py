"""The objects of rejected lines, with S3 in memory: what the index names is there, and nothing else is left."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from runner.aws.bucket import Store
from runner.errors import StartAgainError, StoppedError
from runner.job.protocol import JobResult
from runner.job.rejects import RejectObjects
from tests.support.jobs import Free, Killed
from tests.support.memory import INPUT, KEY, OUTPUT, OUTPUT_KEY, MemoryJobs, MemoryS3, refusal
from transform import SourceChangedError, Summary

FOLDER = "rejects/in/a/job/"
ABOUT = {"job": "job", "outcome": "published"}
BAD = b'bad\n{"a":1}\n'
PAD = b"x" * 1000
BAD_LINES, GOOD_LINES = 28, 500
LARGE = (b"bad\n" + b'{"a":1,"p":"%b"}\n' % PAD * GOOD_LINES) * BAD_LINES  # four chunks


def objects(s3: MemoryS3, writer: str, *lines: bytes, check: Any = lambda: None) -> RejectObjects:
    """Return the objects of a writer that has rejected some lines, each in an object."""
    made = RejectObjects(Store(OUTPUT, s3), FOLDER, writer, s3.clock, check)
    for line in lines:
        made.write(line, Summary())
        made.flush()
    return made


def check_index(s3: MemoryS3, folder: str = FOLDER) -> list[bytes]:
    """Check that nothing is left that the index does not name; return the contents of the objects."""
    index = json.loads(s3.content(f"{folder}index.json") or b"")
    assert s3.keys(folder) == sorted([*index["objects"], f"{folder}index.json"])
    return [s3.content(key) or b"" for key in index["objects"]]


def test_an_object_has_the_name_of_its_writer() -> None:
    s3 = MemoryS3()
    one, other = objects(s3, "one", b"1\n", b"2\n"), objects(s3, "other", b"1\n")
    assert s3.keys(FOLDER) == [
        f"{FOLDER}00000001-one.jsonl",
        f"{FOLDER}00000001-other.jsonl",
        f"{FOLDER}00000002-one.jsonl",
    ]
    assert (one.names, other.names) == (["00000001-one.jsonl", "00000002-one.jsonl"], ["00000001-other.jsonl"])


def test_what_a_dead_attempt_left_is_deleted_after_the_index_was_written() -> None:
    s3 = MemoryS3()
    objects(s3, "dead", b"1\n", b"2\n")
    objects(s3, "mine", b"1\n").finish(Summary(rejected=1), ABOUT, tidy=True)
    assert check_index(s3) == [b"1\n"]
    assert s3.requests.index("list_objects_v2") > len(s3.requests) - 4


@pytest.mark.parametrize("later_s", [0.0, 1.0])
def test_what_another_worker_writes_meanwhile_is_left_to_the_sweep(later_s: float) -> None:
    """The lease is lost, and another worker begins the same job, while the objects are listed."""
    s3 = MemoryS3()
    objects(s3, "dead", b"1\n")
    s3.clock.now += 1
    mine = objects(s3, "mine", b"1\n")

    def before(operation: str, _arguments: dict[str, Any]) -> None:
        if operation == "list_objects_v2":
            s3.before = lambda _operation, _arguments: None
            s3.clock.now += later_s
            other = objects(s3, "other", b"1\n")
            s3.clock.now += later_s
            other.finish(Summary(rejected=1), {**ABOUT, "outcome": "failed"}, tidy=False)

    s3.before = before
    mine.finish(Summary(rejected=1), ABOUT, tidy=True)
    left = s3.keys(FOLDER)
    index = json.loads(s3.content(f"{FOLDER}index.json") or b"")
    assert {*index["objects"]} < {*left}
    assert f"{FOLDER}00000001-other.jsonl" in left or not later_s, "it is not named"


@pytest.mark.parametrize("outcome", [None, "failed", "published"])
def test_an_attempt_without_rejected_lines_deletes_those_of_no_other(outcome: str | None) -> None:
    """It may have been cancelled early, and its clock may be an hour ahead."""
    s3 = MemoryS3()
    other = objects(s3, "other", b"1\n", b"2\n")
    if outcome is not None:
        other.finish(Summary(rejected=2), {**ABOUT, "outcome": outcome}, tidy=False)
    before = s3.keys(FOLDER)
    s3.clock.now += 3600
    earlier, mine = objects(s3, "early", b"1\n"), objects(s3, "mine")
    mine.replace(earlier)
    mine.finish(Summary(), {**ABOUT, "outcome": "cancelled"}, tidy=True)
    assert {*before} <= {*s3.keys(FOLDER)}
    assert (f"{FOLDER}00000001-early.jsonl" in s3.keys(FOLDER)) == (outcome is not None), "it has started again"


@pytest.mark.parametrize("deleted", [0, 1])
def test_without_the_lease_nothing_more_is_deleted(deleted: int) -> None:
    s3 = MemoryS3()
    objects(s3, "dead", b"1\n", b"2\n")
    s3.clock.now += 1

    def check() -> None:
        if s3.requests[-1] == ["list_objects_v2", "delete_object rejects"][deleted]:
            raise StoppedError("the lease has run out")

    mine = objects(s3, "mine", b"1\n", check=check)
    with pytest.raises(StoppedError):
        mine.finish(Summary(rejected=1), ABOUT, tidy=True)
    assert s3.requests.count("delete_object rejects") == deleted


@pytest.mark.parametrize("later_s", [0.0, 1.0])
def test_an_object_that_came_after_the_index_is_left_to_the_sweep(later_s: float) -> None:
    s3 = MemoryS3()
    mine = objects(s3, "mine", b"1\n")

    def before(operation: str, _arguments: dict[str, Any]) -> None:
        if operation == "list_objects_v2":
            s3.clock.now += later_s
            s3.put(f"{FOLDER}00000001-other.jsonl", b"1\n", OUTPUT)

    s3.before = before
    mine.finish(Summary(rejected=1), ABOUT, tidy=True)
    assert (f"{FOLDER}00000001-other.jsonl" in s3.keys(FOLDER)) == (later_s > 0)


def test_a_first_attempt_lists_nothing() -> None:
    s3 = MemoryS3()
    objects(s3, "mine", b"1\n").finish(Summary(rejected=1), ABOUT, tidy=False)
    assert s3.requests == ["put_object rejects"] * 2


@pytest.mark.parametrize("first", ["one", "other"])
@pytest.mark.parametrize("tidy", [False, True])
@pytest.mark.parametrize("outcome", ["published", "failed"])
def test_of_two_workers_at_once_the_second_takes_the_objects_of_the_first(first: str, tidy: bool, outcome: str) -> None:
    """The first to end may delete what the other has written so far, and may not publish."""
    s3, about = MemoryS3(), {**ABOUT, "outcome": outcome}
    both = {"one": objects(s3, "one", b"1\n", b"2\n"), "other": objects(s3, "other", b"1\n2\n")}
    before = both.pop(first)
    before.finish(Summary(rejected=2), about, tidy=tidy)
    ((_, second),) = both.items()
    second.finish(Summary(rejected=2), about, tidy=False)
    before.retract()
    before.discard(bool)
    assert second.has_doubles
    second.retract()
    second.discard(bool)
    assert b"".join(check_index(s3)) == b"1\n2\n"


@pytest.mark.parametrize("outcome", ["published", "failed", "cancelled"])
def test_an_index_that_lists_fewer_rejected_lines_is_not_taken(outcome: str) -> None:
    """It is of an attempt that was cancelled, or failed, earlier in the input."""
    s3, about = MemoryS3(), {**ABOUT, "outcome": outcome}
    mine = objects(s3, "mine", b"1\n", b"2\n")
    objects(s3, "other", b"1\n").finish(Summary(rejected=1), about, tidy=False)
    mine.finish(Summary(rejected=2), about, tidy=False)
    mine.discard(bool)
    assert b"".join(check_index(s3)) == b"1\n2\n"


@pytest.mark.parametrize("rejected", ["9", None, {}])
def test_an_index_whose_count_is_no_number_is_not_taken(rejected: object) -> None:
    s3 = MemoryS3()
    mine = objects(s3, "mine", b"1\n")
    s3.put(f"{FOLDER}index.json", json.dumps({**ABOUT, "rejected": rejected, "objects": []}).encode(), OUTPUT)
    mine.finish(Summary(rejected=1), ABOUT, tidy=False)
    assert check_index(s3) == [b"1\n"]


def test_the_index_of_a_job_that_was_cancelled_does_not_replace_that_of_one_that_has_failed() -> None:
    s3 = MemoryS3()
    objects(s3, "before", b"1\n", b"2\n").finish(Summary(rejected=2), {**ABOUT, "outcome": "failed"}, tidy=False)
    mine = objects(s3, "mine", b"1\n")
    mine.finish(Summary(rejected=1), {**ABOUT, "outcome": "cancelled"}, tidy=True)
    mine.discard(bool)
    assert b"".join(check_index(s3)) == b"1\n2\n"


@pytest.mark.parametrize("lost", [False, True])
def test_an_attempt_whose_objects_another_one_has_deleted_starts_again(lost: bool) -> None:
    """The other one has taken its index back meanwhile."""
    s3 = MemoryS3()
    mine, other = objects(s3, "mine", b"1\n"), objects(s3, "other", b"1\n")
    other.finish(Summary(rejected=1), ABOUT, tidy=lost)

    def before(operation: str, arguments: dict[str, Any]) -> None:
        if operation == "put_object" and "IfMatch" in arguments:
            s3.before = lambda _operation, _arguments: None
            other.retract()
            other.discard(bool)

    s3.before = before
    if lost:
        with pytest.raises(StartAgainError):
            mine.finish(Summary(rejected=1), ABOUT, tidy=False)
        assert s3.keys(FOLDER) == []
    else:
        mine.finish(Summary(rejected=1), ABOUT, tidy=False)
        assert check_index(s3) == [b"1\n"]


@pytest.mark.parametrize("outcome", ["published", "cancelled"])
@pytest.mark.parametrize("age_s", [0.0, 60.0])
def test_a_complete_index_replaces_any(outcome: str, age_s: float) -> None:
    s3 = MemoryS3()
    objects(s3, "before", b"1\n").finish(Summary(rejected=1), {**ABOUT, "outcome": outcome}, tidy=False)
    s3.clock.now += age_s
    mine = objects(s3, "mine", b"1\n")
    mine.finish(Summary(rejected=1), ABOUT, tidy=False)
    names = [f"{FOLDER}00000001-before.jsonl", f"{FOLDER}00000001-mine.jsonl"]
    assert s3.keys(FOLDER) == [*names, f"{FOLDER}index.json"], "a checkpoint may name the one before"
    is_taken = outcome == "published" and not age_s
    mine.discard(bool)
    assert s3.keys(FOLDER) == [names[not is_taken], f"{FOLDER}index.json"]
    check_index(s3)
    mine.retract()
    assert len(s3.keys(FOLDER)) == (2 if outcome == "published" else 1), "an output may stand"


def test_an_index_whose_objects_are_gone_is_not_taken() -> None:
    """It is of an attempt that was superseded, and took effect late, while the same content is read again."""
    s3 = MemoryS3()
    mine = objects(s3, "mine", b"1\n")
    s3.put(f"{FOLDER}index.json", json.dumps({**ABOUT, "objects": [f"{FOLDER}00000001-gone.jsonl"]}).encode(), OUTPUT)
    mine.finish(Summary(rejected=1), ABOUT, tidy=False)
    mine.discard(bool)
    assert check_index(s3) == [b"1\n"]


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_an_index_up_to_a_failure_does_not_replace_a_complete_one(outcome: str) -> None:
    s3 = MemoryS3()
    objects(s3, "before", b"1\n", b"2\n").finish(Summary(rejected=2), ABOUT, tidy=False)
    s3.clock.now += 60
    mine = objects(s3, "mine", b"1\n")
    mine.finish(Summary(rejected=1), {**ABOUT, "outcome": outcome}, tidy=True)
    mine.retract()
    mine.discard(bool)
    assert check_index(s3) == [b"1\n", b"2\n"]
    objects(s3, "other", b"1\n").finish(Summary(rejected=1), {"job": "other", "outcome": outcome}, tidy=False)
    assert json.loads(s3.content(f"{FOLDER}index.json") or b"")["outcome"] == outcome, "of another job it does"


@pytest.mark.parametrize(
    "index", [b"", b"[]", b'{"objects":7}', b'{"objects":["other/a",7,"%bindex.json"]}', b"[" * 99999]
)
def test_an_index_that_is_no_index_is_replaced(index: bytes) -> None:
    s3 = MemoryS3()
    s3.put("other/a", b"", OUTPUT)
    s3.put(f"{FOLDER}index.json", index.replace(b"%b", FOLDER.encode()), OUTPUT)
    objects(s3, "mine", b"1\n").finish(Summary(rejected=1), ABOUT, tidy=False)
    assert check_index(s3) == [b"1\n"]
    assert s3.content("other/a") is not None


def test_an_index_whose_answer_was_lost_is_recognised() -> None:
    s3 = MemoryS3()
    mine = objects(s3, "mine", b"1\n")
    put = s3.call

    def twice(operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "put_object" and arguments["Key"].endswith("index.json"):
            put(operation, **arguments)  # as the SDK does after a time-out
        return put(operation, **arguments)

    s3.call = twice  # type: ignore[method-assign] # of this fake alone
    mine.finish(Summary(rejected=1), ABOUT, tidy=False)
    assert check_index(s3) == [b"1\n"]


@pytest.mark.parametrize("age_s", [0.0, 60.0])
def test_an_index_that_replaces_another_is_recognised_if_its_answer_was_lost(age_s: float) -> None:
    """The one before may be that of an output, so that this one must not be taken back."""
    s3 = MemoryS3()
    objects(s3, "before", b"1\n").finish(Summary(rejected=1), ABOUT, tidy=False)
    s3.clock.now += age_s
    mine = objects(s3, "mine", b"1\n")
    put = s3.call

    def twice(operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "put_object" and "IfMatch" in arguments:
            put(operation, **arguments)
        return put(operation, **arguments)

    s3.call = twice  # type: ignore[method-assign] # of this fake alone
    mine.finish(Summary(rejected=1), ABOUT, tidy=False)
    mine.retract()
    mine.discard(bool)
    assert check_index(s3) == [b"1\n"]


def test_the_lease_is_checked_before_each_object_of_an_earlier_start_is_deleted() -> None:
    s3, checks = MemoryS3(), list[int]()

    def check() -> None:
        checks.append(len(s3.keys(FOLDER)))
        if checks[-1] == 2:
            raise StoppedError("the lease has run out")

    earlier = objects(s3, "early", b"1\n", b"2\n", b"3\n")
    mine = objects(s3, "mine", check=check)
    mine.replace(earlier)
    with pytest.raises(StoppedError):
        mine.finish(Summary(), {**ABOUT, "outcome": "cancelled"}, tidy=True)
    assert s3.keys(FOLDER) == [f"{FOLDER}00000002-early.jsonl", f"{FOLDER}00000003-early.jsonl"]


def test_without_the_lease_nothing_is_written_or_deleted() -> None:
    s3 = MemoryS3()

    def lost() -> None:
        raise StoppedError("the lease has run out")

    objects(s3, "other", b"1\n")
    frozen = RejectObjects(Store(OUTPUT, s3), FOLDER, "frozen", s3.clock, lost)
    before = len(s3.requests)
    frozen.finish(Summary(), ABOUT, tidy=True)
    for tidy in (False, True):
        frozen.write(b"1\n", Summary())
        with pytest.raises(StoppedError):
            frozen.finish(Summary(rejected=1), ABOUT, tidy=tidy)
    assert len(s3.requests) == before


def test_a_lease_lost_after_the_last_object_leaves_the_index_alone() -> None:
    s3 = MemoryS3()
    lost: list[Exception] = []

    def check() -> None:
        if lost:
            raise lost[0]

    frozen = objects(s3, "frozen", b"1\n", check=check)
    lost.append(StoppedError("the lease has run out"))
    with pytest.raises(StoppedError):
        frozen.finish(Summary(rejected=1), ABOUT, tidy=False)
    assert s3.content(f"{FOLDER}index.json") is None


# Through jobs


def folder_of(jobs: MemoryJobs) -> str:
    return jobs.identity().rejects_folder


def test_a_small_job_lists_no_rejects() -> None:
    jobs = MemoryJobs()
    jobs.s3.put(KEY, BAD)
    outcome = jobs.do()
    assert outcome.kind is JobResult.DONE
    assert outcome.rejects == folder_of(jobs)
    assert jobs.s3.requests.count("list_objects_v2") == 1, "of the operator's notes"
    check_index(jobs.s3, folder_of(jobs))


@pytest.mark.parametrize("lives", [2, 3, 4])
def test_a_resumed_job_names_the_objects_up_to_its_checkpoint_and_deletes_others(lives: int) -> None:
    whole = MemoryJobs(part_bytes=100)
    whole.s3.put(KEY, LARGE)
    assert whole.do().kind is JobResult.DONE
    wanted = b"".join(check_index(whole.s3, folder_of(whole)))

    jobs = MemoryJobs(part_bytes=100)
    jobs.s3.put(KEY, LARGE)
    with pytest.raises(Killed):
        jobs.do(again=True, control=Free(lives=lives - 1))
    written = jobs.s3.keys("rejects/")
    jobs.s3.put(f"{folder_of(jobs)}00000009-dead.jsonl", b"{}\n", OUTPUT)  # after its last checkpoint
    assert jobs.do(again=True).kind is JobResult.DONE
    found = check_index(jobs.s3, folder_of(jobs))
    assert b"".join(found) == wanted
    assert {*written} <= {*jobs.s3.keys("rejects/")}, "what a checkpoint names is kept"
    assert jobs.left() == []


def test_a_job_whose_rejected_lines_are_gone_starts_again() -> None:
    """A lifecycle rule may delete them before the checkpoint."""
    jobs = MemoryJobs(part_bytes=100)
    jobs.s3.put(KEY, LARGE)
    with pytest.raises(Killed):
        jobs.do(again=True, control=Free(lives=2))
    (gone,) = jobs.s3.keys("rejects/")[:1]
    del jobs.s3.objects[OUTPUT, gone]
    outcome = jobs.do(again=True)
    assert outcome.kind is JobResult.DONE
    assert len(b"".join(check_index(jobs.s3, folder_of(jobs))).splitlines()) == outcome.summary["rejected"] == BAD_LINES


def test_a_job_whose_input_changes_leaves_no_rejects() -> None:
    jobs = MemoryJobs(part_bytes=100)
    jobs.s3.put(KEY, LARGE)
    jobs.s3.put(OUTPUT_KEY, b"before", OUTPUT)
    event = jobs.event()
    with pytest.raises(Killed):
        jobs.do(again=True, control=Free(lives=2))
    written = jobs.s3.keys("rejects/")[0]
    after_the_checkpoint, of_another = (
        written.replace("00000001-", "00000099-"),
        folder_of(jobs) + "00000001-other.jsonl",
    )
    for key in (after_the_checkpoint, of_another):
        jobs.s3.put(key, b"{}\n", OUTPUT)
    jobs.s3.put(KEY, BAD)
    assert jobs.do(event, again=True).kind is JobResult.SUPERSEDED
    assert (jobs.s3.keys("rejects/"), jobs.left()) == ([of_another], [])


@pytest.mark.parametrize("part", [0, 1, 2, 3])
def test_a_worker_that_was_overtaken_leaves_no_rejects(part: int) -> None:
    jobs = MemoryJobs(part_bytes=100)
    jobs.s3.put(KEY, LARGE)
    overtaken: list[bool] = []

    def check() -> None:
        if len(control.offsets) == part and not overtaken:
            overtaken.append(True)
            assert jobs.do(again=True).kind is JobResult.DONE

    control = Free(check=check)
    assert jobs.do(control=control).kind is JobResult.DUPLICATE
    assert overtaken
    check_index(jobs.s3, folder_of(jobs))
    assert jobs.left() == []


@pytest.mark.parametrize("ending", [b"", b"bad"])
def test_a_worker_that_was_overtaken_before_its_index_leaves_no_index(ending: bytes) -> None:
    """Given another worker that has deleted the objects of both, because the input has changed."""
    jobs = MemoryJobs(part_bytes=100)
    jobs.s3.put(KEY, LARGE + ending)
    event = jobs.event()

    def before(operation: str, arguments: dict[str, Any]) -> None:
        if operation == "put_object" and arguments["Key"].endswith("index.json"):
            jobs.s3.before = lambda _operation, _arguments: None
            jobs.s3.put(KEY, BAD)
            assert jobs.do(event, again=True).kind is JobResult.SUPERSEDED

    jobs.s3.before = before
    assert jobs.do(event).kind in (JobResult.FENCED, JobResult.SUPERSEDED)
    assert jobs.s3.before is not before
    assert not [key for key in jobs.s3.keys("rejects/") if key.endswith("index.json")]
    assert jobs.left() == []


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_repetition_that_fails_leaves_the_rejected_lines_of_the_published_output(cancelled: bool) -> None:
    """It is small, so it has not looked for an output before."""
    jobs = MemoryJobs()
    jobs.s3.put(KEY, BAD)
    assert jobs.do().kind is JobResult.DONE
    before = check_index(jobs.s3, folder_of(jobs))
    jobs.s3.clock.now += 3600

    def cancel(operation: str, arguments: dict[str, Any]) -> None:
        if (operation, arguments.get("Bucket")) == ("get_object", INPUT):
            jobs.s3.put(jobs.identity().cancellation_key, b"{}", OUTPUT)
            jobs.s3.clock.now += 2

    if cancelled:
        jobs.s3.before = cancel
    outcome = jobs.do(sent=int(jobs.s3.clock.now * 1000), ON_ERROR="reject" if cancelled else "fail")
    assert outcome.kind is (JobResult.CANCELLED if cancelled else JobResult.DUPLICATE)
    assert check_index(jobs.s3, folder_of(jobs)) == before
    index = json.loads(jobs.s3.content(f"{folder_of(jobs)}index.json") or b"")
    assert index["outcome"] == "published"


def test_the_rejected_lines_of_a_job_that_fails_are_kept_if_there_is_no_output() -> None:
    jobs = MemoryJobs()
    jobs.s3.put(KEY, BAD)
    assert jobs.do(ON_ERROR="fail").kind is JobResult.FAILED
    check_index(jobs.s3, folder_of(jobs))


@pytest.mark.parametrize("content", [BAD, LARGE])
@pytest.mark.parametrize("kind", [JobResult.STALE, JobResult.SUPERSEDED])
@pytest.mark.parametrize("answer_lost", [False, True])
def test_a_job_that_does_not_publish_leaves_no_rejects(content: bytes, kind: JobResult, answer_lost: bool) -> None:
    jobs = MemoryJobs(part_bytes=100 if content is LARGE else 5 << 20)
    jobs.s3.put(KEY, content)
    event = jobs.event()
    origin = jobs.identity().origin
    other = replace(origin, digest="other", sent=origin.sent + 1)
    if kind is JobResult.SUPERSEDED:
        other = replace(origin, source="other")
    put = jobs.s3.call
    indexes: list[str] = []

    def meanwhile(operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "put_object" and arguments["Key"].endswith("index.json"):
            indexes.append(arguments["Key"])
            jobs.s3.put(OUTPUT_KEY, b"there", OUTPUT, Metadata=other.to_metadata())
            if kind is JobResult.SUPERSEDED:
                jobs.s3.put(KEY, b"")
            if answer_lost:
                put(operation, **arguments)
        return put(operation, **arguments)

    jobs.s3.call = meanwhile  # type: ignore[method-assign] # of this fake alone
    outcome = jobs.do(event)
    assert (outcome.kind, outcome.rejects) == (kind, "")
    assert indexes
    assert (jobs.s3.keys("rejects/"), jobs.left()) == ([], [])


def test_a_job_whose_input_changes_after_another_worker_has_published_leaves_the_rejects() -> None:
    jobs = MemoryJobs()
    jobs.s3.put(KEY, BAD)
    jobs.s3.put(OUTPUT_KEY, b"before", OUTPUT)
    event, folder, origin = jobs.event(), folder_of(jobs), jobs.identity().origin

    def before(operation: str, arguments: dict[str, Any]) -> None:
        if (operation, arguments["Bucket"]) == ("head_object", INPUT):
            jobs.s3.put(OUTPUT_KEY, b"there", OUTPUT, Metadata=origin.to_metadata())
            jobs.s3.put(KEY, b"")

    jobs.s3.before = before
    assert jobs.do(event).kind is JobResult.DUPLICATE
    check_index(jobs.s3, folder)


def test_a_job_whose_input_changes_after_it_has_started_again_leaves_no_rejects() -> None:
    jobs = MemoryJobs()
    jobs.s3.put(KEY, LARGE)
    event = jobs.event()
    starts: list[int] = []

    def before(operation: str, _arguments: dict[str, Any]) -> None:
        if operation == "complete_multipart_upload":
            starts.append(len([key for key in jobs.s3.keys("rejects/") if key.endswith("index.json")]))
            raise refusal(409, "ConditionalRequestConflict")

    def read() -> None:
        if starts:
            jobs.s3.put(KEY, b"")
            raise SourceChangedError(f"s3://{INPUT}/{KEY}: is not what was read before")

    jobs.s3.before = before
    assert jobs.do(event, control=Free(check=read)).kind is JobResult.SUPERSEDED
    assert starts == [1], "its index was written"
    assert (jobs.s3.keys("rejects/"), jobs.left()) == ([], [])


def test_a_job_that_has_published_is_done_although_it_cannot_delete_its_doubles() -> None:
    """Another worker has done the same job at the same time, and this one has taken its objects."""
    jobs = MemoryJobs()
    jobs.s3.put(KEY, BAD)
    folder, about = folder_of(jobs), {**jobs.identity().about, "outcome": "published"}
    refused: list[str] = []

    def before(operation: str, arguments: dict[str, Any]) -> None:
        if operation == "put_object" and arguments["Key"].endswith("index.json"):
            jobs.s3.before = before_delete
            other = RejectObjects(Store(OUTPUT, jobs.s3), folder, "other", jobs.s3.clock, lambda: None)
            other.write(b"1\n", Summary())
            other.finish(Summary(rejected=1), about, tidy=False)

    def before_delete(operation: str, arguments: dict[str, Any]) -> None:
        if operation == "delete_object" and arguments["Key"].startswith(folder):
            refused.append(arguments["Key"])
            raise refusal(503, "SlowDown")

    jobs.s3.before = before
    assert jobs.do().kind is JobResult.DONE
    assert len(refused) == 1


@pytest.mark.parametrize("pause_s", [0, 60])
@pytest.mark.parametrize("starts", [2, 3])
def test_an_index_in_the_place_of_that_of_an_earlier_start_is_retracted(starts: int, pause_s: float) -> None:
    """The output was refused with 409 after its index had been written, and the next start finds a newer output."""
    s3 = MemoryS3()
    mine = objects(s3, "start1", b"1\n")
    mine.finish(Summary(rejected=1), ABOUT, tidy=False)
    for number in range(2, starts + 1):
        s3.clock.now += pause_s
        earlier, mine = mine, objects(s3, f"start{number}", b"1\n")
        mine.replace(earlier)
        mine.finish(Summary(rejected=1), ABOUT, tidy=True)
    mine.retract()
    mine.discard(bool)
    assert s3.keys(FOLDER) == []


@pytest.mark.parametrize("starts", [2, 3])
@pytest.mark.parametrize("end", ["superseded", "cancelled"])
def test_an_index_is_retracted_if_the_next_start_ends_before_it_has_rejected_a_line(starts: int, end: str) -> None:
    """The output was refused with 409 after its index had been written, because the input had been overwritten."""
    s3 = MemoryS3()
    mine = objects(s3, "start1", b"1\n")
    mine.finish(Summary(rejected=1), ABOUT, tidy=False)
    for number in range(2, starts + 1):
        earlier, mine = mine, objects(s3, f"start{number}")
        mine.replace(earlier)
    if end == "cancelled":
        mine.finish(Summary(), {**ABOUT, "outcome": end}, tidy=True)
    else:
        mine.retract()
        mine.discard(bool)
    assert s3.keys(FOLDER) == []


def test_what_an_earlier_start_has_put_into_a_checkpoint_stays_while_there_is_one() -> None:
    s3 = MemoryS3()
    earlier, mine = objects(s3, "start1", b"1\n"), objects(s3, "start2")
    assert earlier.names_for_checkpoint()
    mine.replace(earlier)
    mine.discard(lambda: True)
    assert s3.keys(FOLDER) == [f"{FOLDER}00000001-start1.jsonl"]
    mine.discard(lambda: False)
    assert s3.keys(FOLDER) == []


def test_an_index_that_another_worker_has_replaced_between_two_starts_is_not_retracted() -> None:
    s3 = MemoryS3()
    earlier = objects(s3, "start1", b"1\n")
    earlier.finish(Summary(rejected=1), ABOUT, tidy=False)
    s3.clock.now += 60
    objects(s3, "other", b"1\n").finish(Summary(rejected=1), ABOUT, tidy=False)
    s3.clock.now += 60
    mine = objects(s3, "start2", b"1\n")
    mine.replace(earlier)
    mine.finish(Summary(rejected=1), ABOUT, tidy=True)
    mine.retract()
    mine.discard(bool)
    assert check_index(s3) == [b"1\n"]


def test_an_index_that_another_attempt_has_replaced_is_not_retracted() -> None:
    s3 = MemoryS3()
    mine = objects(s3, "mine", b"1\n")
    mine.finish(Summary(rejected=1), ABOUT, tidy=False)
    s3.clock.now += 60
    objects(s3, "other", b"1\n").finish(Summary(rejected=1), ABOUT, tidy=False)
    mine.retract()
    mine.discard(bool)
    assert s3.keys(FOLDER) == [f"{FOLDER}00000001-other.jsonl", f"{FOLDER}index.json"]
    check_index(s3)


def test_what_a_checkpoint_may_name_stays_until_there_is_none() -> None:
    s3 = MemoryS3()
    other = objects(s3, "other", b"1\n")
    other.finish(Summary(rejected=1), ABOUT, tidy=False)
    mine = objects(s3, "mine", b"1\n", b"2\n")
    assert mine.names_for_checkpoint() == ("00000001-mine.jsonl", "00000002-mine.jsonl")
    mine.write(b"3\n", Summary())
    mine.finish(Summary(rejected=1), {**ABOUT, "outcome": "failed"}, tidy=False)
    names = [f"{FOLDER}{name}" for name in ("00000001-mine.jsonl", "00000001-other.jsonl", "00000002-mine.jsonl")]
    for has_checkpoint in (True, True, False):
        mine.discard(lambda: has_checkpoint)  # noqa: B023 - called at once
        kept = names if has_checkpoint else names[1:2]
        assert s3.keys(FOLDER) == [*kept, f"{FOLDER}index.json"]
    check_index(s3)


@pytest.mark.parametrize("ends", [False, True])
def test_the_index_of_a_job_that_is_continued_names_what_is_there(ends: bool) -> None:
    """Another worker ends the same job while this one is at it, which then goes on from its own checkpoint."""
    jobs = MemoryJobs(part_bytes=100)
    jobs.s3.put(KEY, LARGE)
    folder = folder_of(jobs)
    other = RejectObjects(Store(OUTPUT, jobs.s3), folder, "other", jobs.s3.clock, lambda: None)
    other.write(b"1\n", Summary())

    def before(operation: str, arguments: dict[str, Any]) -> None:
        if operation == "put_object" and arguments["Key"] == f"{folder}index.json" and not other.names:
            other.finish(Summary(rejected=1), {"job": jobs.identity().id, "outcome": "published"}, tidy=False)
        if operation == "head_object" and arguments["Key"] == OUTPUT_KEY and other.names and not ends:
            raise Killed

    jobs.s3.before = before
    if ends:
        assert jobs.do().kind is JobResult.DONE
    else:
        with pytest.raises(Killed):
            jobs.do()
        jobs.s3.before = lambda _operation, _arguments: None
        jobs.s3.clock.now += 100
        assert jobs.do(again=True).kind is JobResult.DONE
    check_index(jobs.s3, folder)


def test_a_job_that_starts_again_leaves_no_rejects_of_its_first_start() -> None:
    jobs = MemoryJobs(part_bytes=100, changes={"CALCULATION": "a + 1 AS b", "PART_BYTES": "5MiB"})
    large = b'{"a":%d}\n' % 10**50  # beyond 128 bits an integer is rejected, and a float is not
    content = b'{"a":1}\n' * 1000 + large + (b'{"a":1,"p":"%b"}\n' % PAD) * 14_000 + b'{"a":0.5}\n'
    jobs.s3.put(KEY, content)
    outcome = jobs.do()
    assert (outcome.kind, outcome.summary["rejected"]) == (JobResult.DONE, 0)
    assert "put_object rejects" in jobs.s3.requests
    assert (jobs.s3.keys("rejects/"), jobs.left()) == ([], [])


def test_a_checkpoint_of_the_version_before_begins_the_job_anew() -> None:
    jobs = MemoryJobs(part_bytes=100)
    jobs.s3.put(KEY, LARGE)
    with pytest.raises(Killed):
        jobs.do(again=True, control=Free(lives=2))
    (key,) = jobs.s3.keys("checkpoints/")
    plain = json.loads(jobs.s3.content(key) or b"")
    jobs.s3.put(key, json.dumps({**plain, "version": 1, "rejects": 1}).encode(), OUTPUT)
    jobs.s3.put(f"{folder_of(jobs)}00000001.jsonl", b"{}\n", OUTPUT)
    control = Free()
    assert jobs.do(again=True, control=control).kind is JobResult.DONE
    assert b"".join(check_index(jobs.s3, folder_of(jobs))).count(b"\n") == BAD_LINES
    assert jobs.s3.keys("checkpoints/") == []


def test_a_checkpoint_that_is_not_true_of_the_input_begins_the_job_anew() -> None:
    jobs = MemoryJobs(part_bytes=100)
    jobs.s3.put(KEY, LARGE)
    with pytest.raises(Killed):
        jobs.do(again=True, control=Free(lives=2))
    (key,) = jobs.s3.keys("checkpoints/")
    plain = json.loads(jobs.s3.content(key) or b"")
    plain["state"]["codec"] = "gzip"
    jobs.s3.put(key, json.dumps(plain).encode(), OUTPUT)
    assert jobs.do(again=True).kind is JobResult.DONE
    assert (jobs.output or b"").count(b"\n") == BAD_LINES * GOOD_LINES
    assert jobs.left() == []
