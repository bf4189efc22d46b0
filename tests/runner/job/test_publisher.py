"""Publishing with S3 in memory: what is asked before, in which order, and what another event changes."""

from __future__ import annotations

import bz2
import gzip
import json
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import StoppedError
from runner.job.protocol import JobResult
from tests.support.fakes import FakeClock
from tests.support.jobs import Free, Killed
from tests.support.memory import INPUT, KEY, NOW_S, OUTPUT, OUTPUT_KEY, SENT, MemoryJobs, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.job.identity import Origin

SMALL, SMALL_OUTPUT = b'{"a":1}\n', b'{"a":1,"b":2}\n'
LINES = 14_000
PAD = b"x" * 1000
LARGE = b'{"a":1,"p":"%b"}\n' % PAD * LINES  # four chunks
PARTS = 4
LARGE_OUTPUT = b'{"a":1,"p":"%b","b":2}\n' % PAD * LINES
VARIED = b"".join(b'{"a":1,"p":"%b"}\n' % Random(line).randbytes(500).hex().encode() for line in range(8000))
"""Three chunks, which give parts even if they are compressed."""
VARIED_OUTPUT = VARIED.replace(b"}", b',"b":2}')
OLDER, MINE, NEWER = "0054", "0055", "0056"
SIZES = {"small": (SMALL, SMALL_OUTPUT), "multipart": (LARGE, LARGE_OUTPUT)}
PUBLISHES = {"small": "put_object", "multipart": "complete_multipart_upload"}


class Case:
    """A job whose output is small, or has parts."""

    def __init__(self, size: str) -> None:
        self.jobs = MemoryJobs(part_bytes=100 if size == "multipart" else 5 << 20)
        self.s3 = self.jobs.s3
        self.content, self.expected = SIZES[size]
        self.publishes = PUBLISHES[size]
        self.s3.put(KEY, self.content)

    def origin(self, **changes: Any) -> Origin:
        origin = self.jobs.identity().origin
        return replace(origin, modified=int(NOW_S * 1000), **changes)

    def appears(self, content: bytes = b"there", **changes: Any) -> None:
        self.s3.put(OUTPUT_KEY, content, OUTPUT, Metadata=self.origin(**changes).to_metadata())

    def before_publishing(self, *happenings: Callable[[], None]) -> None:
        """Let things happen before the first request to publish, before the second, and so on."""
        self._at("before", [*happenings])

    def after_publishing(self, *happenings: Callable[[], None]) -> None:
        """Let things happen after the first request to publish, and so on."""
        self._at("after", [*happenings])

    def _at(self, when: str, left: list[Callable[[], None]]) -> None:
        def hook(operation: str, arguments: dict[str, Any]) -> None:
            if left and operation == self.publishes and arguments.get("Key") == OUTPUT_KEY:
                left.pop(0)()

        setattr(self.s3, when, hook)

    def overwritten(self, content: bytes = b'{"a":5}\n') -> None:
        self.s3.put(KEY, content)

    def requested(self, *what: str) -> list[str]:
        return [one for one in self.s3.requests if one in what]


@pytest.fixture(params=[*SIZES])
def case(request: pytest.FixtureRequest) -> Case:
    """One for each way to publish."""
    return Case(request.param)


@pytest.fixture
def large() -> Case:
    return Case("multipart")


@pytest.fixture
def small() -> Case:
    return Case("small")


def fails(status: int, code: str) -> Callable[[], None]:
    def fail() -> None:
        raise refusal(status, code)

    return fail


# The order


def test_a_new_small_output_is_put_without_a_look(small: Case) -> None:
    assert small.jobs.do().kind is JobResult.DONE
    assert small.s3.requests == ["list_objects_v2", "get_object in", "put_object output"]


def test_all_is_uploaded_before_the_output_is_looked_at(large: Case) -> None:
    large.appears(source="other")
    assert large.jobs.do().kind is JobResult.DONE
    publishing = "upload_part output", "head_object output", "head_object in", "complete_multipart_upload output"
    assert large.requested(*publishing) == [
        "head_object output",
        *["upload_part output"] * PARTS,
        "head_object output",
        "head_object in",
        "complete_multipart_upload output",
    ]
    assert large.jobs.output == LARGE_OUTPUT


def test_the_input_is_not_looked_at_where_nothing_is_replaced(large: Case) -> None:
    assert large.jobs.do().kind is JobResult.DONE
    assert large.requested("head_object in") == []


def test_the_lease_is_checked_after_the_last_look(case: Case) -> None:
    case.appears(source="other")
    asked: list[str] = []

    def check_lease() -> None:
        asked.append(case.s3.requests[-1])
        if case.s3.requests[-1] == "head_object in":
            raise StoppedError("the lease has run out")

    assert case.jobs.do(control=Free(check_lease=check_lease)).kind is JobResult.STOPPED
    assert asked[-1] == "head_object in"
    assert case.jobs.output == b"there"


def test_a_lease_lost_during_the_last_part_publishes_nothing(large: Case) -> None:
    def check_lease() -> None:
        if len(large.requested("upload_part output")) == PARTS:
            raise StoppedError("the lease has run out")

    assert large.jobs.do(control=Free(check_lease=check_lease)).kind is JobResult.STOPPED
    assert large.jobs.output is None


# What the input has become


@pytest.mark.parametrize("gone", [False, True])
def test_an_output_is_replaced_only_by_that_of_the_current_input(case: Case, gone: bool) -> None:
    case.appears(source="other", sequencer=OLDER)

    def change() -> None:
        if gone:
            del case.s3.objects[INPUT, KEY]
        else:
            case.overwritten()

    at_the_look = [change]

    def before(operation: str, arguments: dict[str, Any]) -> None:
        if operation == "head_object" and arguments["Bucket"] == INPUT and at_the_look:
            at_the_look.pop()()

    case.s3.before = before
    outcome = case.jobs.do()
    assert (outcome.kind, case.jobs.output, case.jobs.left()) == (JobResult.SUPERSEDED, b"there", [])
    assert not outcome.of_object


def test_another_version_of_the_same_content_is_not_the_one_that_was_read(case: Case) -> None:
    case.s3.versioned = True
    event = case.jobs.event()
    case.appears(source="other", sequencer=OLDER)
    case.overwritten(case.content)
    assert case.jobs.do(event).kind is JobResult.SUPERSEDED
    assert case.jobs.do(case.jobs.event(NEWER)).kind is JobResult.DONE


@pytest.mark.parametrize("content", [b'{"a":5}\n', b""])
def test_the_older_of_two_versions_of_one_second_never_wins(case: Case, content: bytes) -> None:
    """Neither has a sequencer, as messages of `runner submit`."""
    older = case.jobs.event(None)
    before = case.s3.objects[INPUT, KEY]
    case.overwritten(content)
    newer = case.jobs.event(None)
    assert case.jobs.do(newer).kind is JobResult.DONE
    output = case.jobs.output
    current = case.s3.objects[INPUT, KEY]
    case.s3.objects[INPUT, KEY] = before

    def overwritten_again() -> None:
        case.s3.objects[INPUT, KEY] = current

    case.before_publishing(overwritten_again)
    if case.publishes.startswith("complete"):  # it looks before it publishes
        done = case.s3.before

        def before_looking(operation: str, arguments: dict[str, Any]) -> None:
            if operation == "upload_part" and arguments["PartNumber"] == PARTS:
                overwritten_again()
            done(operation, arguments)

        case.s3.before = before_looking
    assert case.jobs.do(older).kind is JobResult.SUPERSEDED
    assert case.jobs.output == output


def test_the_newer_of_two_versions_of_one_second_always_wins(case: Case) -> None:
    newer = case.jobs.event(None)
    case.appears(source="other", sequencer="")
    assert case.jobs.do(newer, again=True).kind is JobResult.DONE
    assert case.jobs.output == case.expected


# Other people's metadata

FORGED = ["F" * 16, "F" * 64]


@pytest.mark.parametrize("sequencer", FORGED)
@pytest.mark.parametrize("again", [False, True])
def test_a_sequencer_from_the_future_does_not_freeze_the_key(case: Case, sequencer: str, again: bool) -> None:
    case.appears(source="other", sequencer=sequencer)
    assert case.jobs.do(again=again).kind is JobResult.DONE
    assert case.jobs.output == case.expected
    assert case.jobs.metadata["transform-sequencer"] == MINE, "later events are compared with this one"
    case.overwritten()
    assert case.jobs.do(case.jobs.event(NEWER)).kind is JobResult.DONE
    assert case.jobs.output == b'{"a":5,"b":6}\n'


@pytest.mark.parametrize("again", [False, True])
def test_what_is_older_than_the_output_and_the_input_is_stale(case: Case, again: bool) -> None:
    event = case.jobs.event()
    case.overwritten()
    case.appears(source="other", sequencer=NEWER)
    assert case.jobs.do(event, again=again).kind is JobResult.STALE
    assert case.jobs.output == b"there"
    assert len(case.requested("head_object in")) == 1
    assert len(case.requested("get_object in")) == (not again and case.publishes == "put_object")


def test_the_calculation_that_was_asked_for_last_stays_though_the_input_is_current(case: Case) -> None:
    case.appears(digest="other", sent=SENT + 1)
    assert case.jobs.do(again=True).kind is JobResult.STALE
    assert case.requested("head_object in") == []
    assert case.jobs.do(sent=SENT + 2).kind is JobResult.DONE


def test_a_calculation_that_is_asked_for_meanwhile_stays(case: Case) -> None:
    case.before_publishing(lambda: case.appears(digest="other", sent=SENT + 1))
    assert case.jobs.do().kind is JobResult.STALE
    assert (case.jobs.output, case.jobs.left()) == (b"there", [])


def test_a_copy_of_an_earlier_message_does_not_replace_what_was_asked_for_since(case: Case) -> None:
    case.appears(digest="other", sent=SENT + 1, first_sent=SENT + 1)
    assert case.jobs.do(sent=SENT + 2, first_sent=SENT, again=True).kind is JobResult.STALE
    assert case.jobs.do(sent=SENT + 2, first_sent=SENT).kind is JobResult.STALE
    assert (case.jobs.output, case.jobs.left()) == (b"there", [])


def test_a_copy_replaces_the_output_of_its_original_by_another_deployment(case: Case) -> None:
    case.appears(digest="other")
    assert case.jobs.do(sent=SENT + 2, first_sent=SENT).kind is JobResult.DONE
    assert case.jobs.metadata["transform-first-sent"] == str(SENT)


def test_a_continued_upload_keeps_the_times_of_its_message(large: Case) -> None:
    with pytest.raises(Killed):
        large.jobs.do(control=Free(lives=2), sent=SENT + 5, first_sent=SENT + 3, again=True)
    large.before_publishing(lambda: large.appears(digest="other", sent=SENT + 9, first_sent=SENT + 4))
    outcome = large.jobs.do(sent=SENT + 10, first_sent=SENT + 3, again=True)
    assert outcome.kind is JobResult.STALE
    assert len(large.requested("create_multipart_upload output")) == 1


def test_an_upload_of_an_earlier_version_of_the_worker_is_not_continued(large: Case) -> None:
    """It has not noted the format of the parts."""
    with pytest.raises(Killed):
        large.jobs.do(control=Free(lives=2), again=True)
    (key,) = large.s3.keys("checkpoints/")
    plain = json.loads(large.s3.content(key) or b"")
    del plain["codec"]
    large.s3.put(key, json.dumps({**plain, "version": 2}).encode(), OUTPUT)
    assert large.jobs.do(again=True).kind is JobResult.DONE
    assert len(large.requested("create_multipart_upload output")) == 2
    assert (large.jobs.output, large.s3.keys("checkpoints/")) == (LARGE_OUTPUT, [])


@pytest.mark.parametrize("sent", [int(NOW_S * 1000) + 25 * 3600 * 1000, 10**18, -1])
def test_a_message_from_the_future_does_not_freeze_the_key(case: Case, sent: int) -> None:
    case.appears(digest="other", sent=sent)
    assert case.jobs.do().kind is JobResult.DONE


def test_a_duplicate_is_one_whatever_the_input_has_become(case: Case) -> None:
    assert case.jobs.do().kind is JobResult.DONE
    event = case.jobs.event()
    case.overwritten()
    before = len(case.requested("head_object in"))
    assert case.jobs.do(event, again=True).kind is JobResult.DUPLICATE
    assert len(case.requested("head_object in")) == before


def test_an_event_without_an_etag_replaces_an_output(case: Case) -> None:
    case.appears(source="other", sequencer="FF")
    assert case.jobs.do(case.jobs.event(etag=False), again=True).kind is JobResult.DONE
    assert case.jobs.output == case.expected


def test_an_event_without_an_etag_does_not_continue_the_job_of_another_content() -> None:
    """Given a content of the same size, whose line ends are at the same places."""
    jobs = MemoryJobs(part_bytes=100)
    one, two = (b'{"a":%d,"p":"%s"}\n' % (number, b"x" * 1000) * 9000 for number in (1, 2))
    jobs.s3.put(KEY, one)
    event = jobs.event(etag=False)
    with pytest.raises(Killed):
        jobs.do(event, control=Free(lives=2))
    jobs.s3.put(KEY, two)
    assert jobs.do(event, again=True).kind is JobResult.DONE
    assert jobs.output == two.replace(b"}", b',"b":3}')


# What S3 answers


def test_conflicts_of_a_small_output_are_waited_out_with_growing_delays(small: Case) -> None:
    waits: list[float] = []

    class Waiting(FakeClock):
        def sleep(self, seconds: float) -> None:
            waits.append(seconds)

    small.s3.clock = Waiting(NOW_S)
    small.before_publishing(*[fails(409, "ConditionalRequestConflict")] * 5)
    assert small.jobs.do().kind is JobResult.DONE
    assert len(waits) == 5
    limits = small.jobs.chance.limits
    assert [high for _, high in limits] == pytest.approx([0.1 * 2**number for number in range(5)])
    assert [low for low, _ in limits] == pytest.approx([high / 2 for _, high in limits])
    assert all(low <= wait <= high for (low, high), wait in zip(limits, waits, strict=True))


def test_a_conflict_of_a_multipart_upload_starts_it_again(large: Case) -> None:
    large.before_publishing(fails(409, "ConditionalRequestConflict"))
    assert large.jobs.do().kind is JobResult.DONE
    assert len(large.requested("create_multipart_upload output")) == 2
    assert (large.jobs.output, large.jobs.left()) == (LARGE_OUTPUT, [])


@pytest.mark.parametrize("there", [False, True])
def test_a_lost_answer_is_settled_by_looking(case: Case, there: bool) -> None:
    if there:
        case.appears(source="other", sequencer=OLDER)
    case.after_publishing(fails(500, "InternalError"))
    outcome = case.jobs.do()
    assert (outcome.kind, case.jobs.output, case.jobs.left()) == (JobResult.DONE, case.expected, [])
    assert outcome.etag == case.s3.objects[OUTPUT, OUTPUT_KEY].etag


def test_an_upload_that_failed_while_another_worker_published_is_aborted(large: Case) -> None:
    def fail() -> None:
        large.appears()
        raise refusal(503, "SlowDown")

    large.before_publishing(fail)
    assert large.jobs.do().kind is JobResult.DONE
    assert (large.jobs.output, large.jobs.left()) == (b"there", [])


def test_an_upload_that_is_gone_is_not_made_again_for_what_is_stale(large: Case) -> None:
    def aborted() -> None:
        large.appears(digest="other", sent=SENT + 1)
        large.s3.uploads.clear()

    large.before_publishing(aborted)
    assert large.jobs.do().kind is JobResult.STALE
    assert len(large.requested("create_multipart_upload output")) == 1


def test_an_output_that_appears_before_the_request_is_looked_at_again(case: Case) -> None:
    case.before_publishing(lambda: case.appears(source="other", sequencer=OLDER))
    assert case.jobs.do().kind is JobResult.DONE
    assert len(case.requested("head_object in")) == 1
    assert case.jobs.output == case.expected


# A checkpoint of another event about the same content


def test_a_newer_event_of_the_same_content_begins_a_new_upload(large: Case) -> None:
    with pytest.raises(Killed):
        large.jobs.do(control=Free(lives=2), again=True)
    (first,) = large.s3.uploads
    outcome = large.jobs.do(large.jobs.event(NEWER), sent=SENT + 5, again=True)
    assert (outcome.kind, large.jobs.output, large.jobs.left()) == (JobResult.DONE, LARGE_OUTPUT, [])
    assert first not in large.s3.uploads
    assert large.jobs.metadata["transform-sequencer"] == NEWER
    assert large.jobs.metadata["transform-sent"] == str(SENT + 5)


def test_an_older_event_of_the_same_content_continues_the_upload_with_its_origin(large: Case) -> None:
    with pytest.raises(Killed):
        large.jobs.do(large.jobs.event(NEWER), control=Free(lives=2), again=True)
    assert large.jobs.do(again=True).kind is JobResult.DONE
    assert large.requested("create_multipart_upload output") == ["create_multipart_upload output"]
    assert len(large.requested("upload_part output")) == PARTS
    assert large.jobs.metadata["transform-sequencer"] == NEWER
    assert large.jobs.do(large.jobs.event(NEWER), again=True).kind is JobResult.DUPLICATE


def test_what_is_decided_is_decided_on_the_origin_of_the_upload(large: Case) -> None:
    with pytest.raises(Killed):
        large.jobs.do(large.jobs.event(NEWER), control=Free(lives=2), again=True)
    large.before_publishing(lambda: large.appears(sequencer="00555"))
    assert large.jobs.do(again=True).kind is JobResult.DONE
    assert large.jobs.metadata["transform-sequencer"] == NEWER


def test_a_copy_of_the_message_continues_the_upload(large: Case) -> None:
    with pytest.raises(Killed):
        large.jobs.do(control=Free(lives=2), again=True)
    assert large.jobs.do(sent=SENT + 9, again=True).kind is JobResult.DONE
    assert large.requested("create_multipart_upload output") == ["create_multipart_upload output"]


# Cleaning up


def test_a_job_that_another_owner_is_at_keeps_its_upload_though_an_output_is_there(large: Case) -> None:
    with pytest.raises(Killed):
        large.jobs.do(large.jobs.event(NEWER), control=Free(lives=2), again=True, owner="one")
    large.appears()
    left = large.jobs.left()
    assert large.jobs.do(again=True, owner="another").kind is JobResult.DUPLICATE
    assert large.jobs.left() == left


def test_an_abandoned_upload_is_removed_where_an_output_is_there(large: Case) -> None:
    with pytest.raises(Killed):
        large.jobs.do(control=Free(lives=2), again=True, owner="one")
    large.appears()
    assert large.jobs.do(again=True, owner="one").kind is JobResult.DUPLICATE
    assert large.jobs.left() == []


def test_an_upload_that_was_taken_over_is_not_aborted_at_the_end(large: Case) -> None:
    """Another worker takes over before the output is published, and by then there is an output of the same job."""
    taken: list[str] = []

    def killed() -> None:
        raise Killed

    def take_over() -> None:
        with pytest.raises(Killed):
            large.jobs.do(control=Free(check=killed), again=True)
        taken.extend(large.jobs.left())
        large.appears()

    def before(operation: str, arguments: dict[str, Any]) -> None:
        if operation == "upload_part" and arguments["PartNumber"] == PARTS and not taken:
            taken.append("")
            take_over()

    large.s3.before = before
    assert large.jobs.do(again=True).kind is JobResult.DUPLICATE
    assert large.jobs.left() == taken[1:] != []


# An input that is copied onto itself, with other properties and the same ETag


@pytest.mark.parametrize(("before", "after"), [(None, "gzip"), ("gzip", None), ("gzip", "bz2")])
def test_an_upload_that_is_compressed_otherwise_is_not_continued(before: str | None, after: str | None) -> None:
    large = Case("multipart")
    large.s3.put(KEY, VARIED, ContentEncoding=before)
    with pytest.raises(Killed):
        large.jobs.do(control=Free(lives=1), again=True)
    event = large.jobs.event()
    large.s3.put(KEY, VARIED, ContentEncoding=after)
    assert large.jobs.event() == event
    assert large.jobs.do(again=True).kind is JobResult.DONE
    stored = large.s3.objects[OUTPUT, OUTPUT_KEY]
    assert stored.headers.get("ContentEncoding") == after
    assert inflated(stored.content, after) == VARIED_OUTPUT
    assert large.jobs.left() == []


@pytest.mark.parametrize("encoding", [None, "gzip"])
def test_other_properties_stay_as_they_were_when_the_upload_was_created(encoding: str | None) -> None:
    large = Case("multipart")
    large.s3.put(KEY, VARIED, ContentEncoding=encoding, ContentType="text/first")
    with pytest.raises(Killed):
        large.jobs.do(control=Free(lives=1), again=True)
    large.s3.put(KEY, VARIED, ContentEncoding=encoding, ContentType="text/second", StorageClass="STANDARD_IA")
    large.s3.requests.clear()
    assert large.jobs.do(again=True).kind is JobResult.DONE
    assert "create_multipart_upload output" not in large.s3.requests
    stored = large.s3.objects[OUTPUT, OUTPUT_KEY]
    assert (stored.headers["ContentType"], "StorageClass" in stored.headers) == ("text/first", False)
    assert inflated(stored.content, encoding) == VARIED_OUTPUT


def inflated(content: bytes, encoding: str | None) -> bytes:
    """Return what was compressed in several streams, or not at all."""
    if encoding is None:
        return content
    return gzip.decompress(content) if encoding == "gzip" else bz2.decompress(content)
