"""Outputs with keys of their own: which key a job writes to, and what becomes of two inputs with one output key."""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import ImpossibleError, SettingsError
from runner.job.identity import Origin, input_of
from runner.job.keys import output_key, rejects_folder, sharing_of
from runner.job.protocol import JobResult
from runner.settings import Settings
from tests.support.fakes import LEAST
from tests.support.jobs import Free, Killed
from tests.support.memory import INPUT, NOW_S, OUTPUT, MemoryJobs, refusal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.s3_events import ObjectCreated

PAD = b"x" * 1000
CONTENTS = {"small": b'{"a":%d}\n', "multipart": b'{"a":%d,"p":"' + PAD + b'"}\n'}
PUBLISHES = {"small": "put_object", "multipart": "complete_multipart_upload"}
LINES = {"small": 1, "multipart": 9000}
STEM = "{dir}{stem}.scored.jsonl"
PLACE = "output/in/day.scored.jsonl"
DATED = "{date:%Y/%m/%d}/{name}"
DAY_S = 86_400.0
NOVEMBER_14, NOVEMBER_15 = "output/2023/11/14/day.jsonl", "output/2023/11/15/day.jsonl"


class Case:
    """Jobs with a template, whose outputs are small, or have parts."""

    def __init__(self, size: str, **changes: str) -> None:
        self.size = size
        self.changes: dict[str, Any] = {"OUTPUT_KEY": STEM} | changes
        self.jobs = MemoryJobs(part_bytes=100 if size == "multipart" else 5 << 20)
        self.s3 = self.jobs.s3

    def put(self, key: str, number: int = 1, bucket: str = INPUT) -> ObjectCreated:
        self.s3.put(key, CONTENTS[self.size] % number * LINES[self.size], bucket)
        return self.jobs.event(key=key, bucket=bucket)

    def do(self, event: ObjectCreated, **more: Any) -> tuple[JobResult, str]:
        outcome = self.jobs.do(event, **self.changes, **more)
        return outcome.kind, outcome.reason or outcome.output

    def number(self, place: str = PLACE) -> int | None:
        """Return the number in the lines of an output."""
        content = self.s3.content(place)
        return None if content is None else int(json.loads(content.splitlines()[0])["a"])

    def before_publishing(self, happens: Callable[[], object], when: str = "before", at: str = "") -> None:
        """Let something happen before or after the first request to publish, or another one."""
        left, awaited = [happens], at or PUBLISHES[self.size]

        def hook(operation: str, arguments: dict[str, Any]) -> None:
            if left and operation == awaited and arguments.get("Key", "").startswith("output/"):
                left.pop()()

        setattr(self.s3, when, hook)


@pytest.fixture(params=[*CONTENTS])
def size(request: pytest.FixtureRequest) -> str:
    """One for each way to publish."""
    return str(request.param)


@pytest.fixture
def case(size: str) -> Case:
    return Case(size)


def taken_by(key: str, bucket: str = INPUT, place: str = PLACE) -> tuple[JobResult, str]:
    known = f"whose bucket and key have the hash {input_of(bucket, key)}"
    return JobResult.FAILED, refused(known, place)


def refused(known: str, place: str = PLACE) -> str:
    return (
        f"its output key is taken: s3://outgoing/{place} is the output of another input, {known}: "
        "set OUTPUT_KEY so that each input has an output key of its own"
    )


UNNAMED = "which its metadata do not name"


# Two inputs with one output key


def test_the_second_of_two_inputs_is_refused(case: Case) -> None:
    assert case.do(case.put("in/day.jsonl", 1)) == (JobResult.DONE, PLACE)
    assert case.do(case.put("in/day.json", 2)) == taken_by("in/day.jsonl")
    assert case.number() == 1
    assert case.jobs.left() == []
    assert case.do(case.put("in/day.json", 3), again=True) == taken_by("in/day.jsonl")
    assert case.jobs.left() == []


def test_it_counts_against_its_own_message(case: Case) -> None:
    case.do(case.put("in/day.jsonl"))
    outcome = case.jobs.do(case.put("in/day.json", 2), **case.changes)
    assert (outcome.of_object, outcome.unfit, outcome.output, outcome.etag) == (True, False, "", "")
    assert outcome.job
    assert outcome.digest


def test_the_first_is_replaced_by_its_own_versions(case: Case) -> None:
    case.do(case.put("in/day.jsonl", 1))
    assert case.do(case.put("in/day.jsonl", 2)) == (JobResult.DONE, PLACE)
    assert case.number() == 2
    assert case.do(case.put("in/day.json", 3)) == taken_by("in/day.jsonl")
    assert case.do(case.jobs.event(key="in/day.jsonl"), again=True) == (JobResult.DUPLICATE, PLACE)
    assert case.number() == 2


def test_a_race_at_the_last_moment(case: Case) -> None:
    """Given that the other output appears between the last look and the request to publish."""
    first, second = case.put("in/day.jsonl", 1), case.put("in/day.json", 2)
    case.before_publishing(lambda: case.do(first))
    assert case.do(second) == taken_by("in/day.jsonl")
    assert case.number() == 1
    assert case.jobs.left() == []


def test_an_answer_that_is_lost_while_the_other_is_published(case: Case) -> None:
    first, second = case.put("in/day.jsonl", 1), case.put("in/day.json", 2)

    def happens() -> None:
        case.do(first)
        raise refusal(503, "SlowDown")

    case.before_publishing(happens)
    assert case.do(second) == taken_by("in/day.jsonl")
    assert case.number() == 1
    assert case.jobs.left() == []


def test_an_own_answer_that_is_lost(case: Case) -> None:
    def lost() -> None:
        raise refusal(503, "SlowDown")

    case.before_publishing(lost, when="after")
    assert case.do(case.put("in/day.jsonl")) == (JobResult.DONE, PLACE)
    assert case.number() == 1


def test_no_rejected_lines_are_left_of_what_is_refused() -> None:
    case = Case("small")
    case.do(case.put("in/day.jsonl"))
    case.s3.put("in/day.json", b'{"a":2}\n!\n')
    assert case.do(case.jobs.event(key="in/day.json")) == taken_by("in/day.jsonl")
    assert case.s3.keys() == [PLACE]


def test_an_input_that_has_changed_is_no_dead_letter(case: Case) -> None:
    first, old = case.put("in/day.jsonl", 1), case.put("in/day.json", 2)
    during = "put_object" if case.size == "small" else "upload_part"
    case.before_publishing(lambda: (case.do(first), case.put("in/day.json", 3)), at=during)
    assert case.do(old)[0] is JobResult.SUPERSEDED
    assert case.do(old, again=True)[0] is JobResult.SUPERSEDED
    del case.s3.objects[INPUT, "in/day.json"]
    assert case.do(replace(old, etag="0" * 32))[0] is JobResult.SUPERSEDED
    assert case.number() == 1
    assert case.jobs.left() == []


def test_a_job_that_fails_says_why_it_failed() -> None:
    case = Case("small")
    case.do(case.put("in/day.jsonl"))
    case.s3.put("in/day.json", b"!\n")
    kind, reason = case.do(case.jobs.event(key="in/day.json"))
    assert kind is JobResult.FAILED
    assert reason.startswith("every line was rejected")


@pytest.mark.parametrize("size", CONTENTS)
@pytest.mark.parametrize("template", [None, "{key}"])
def test_without_a_template_all_is_as_it_was(size: str, template: str | None) -> None:
    """Given an output of an input of another name at the key of this one, as after other settings."""
    case = Case(size)
    if template is None:
        del case.changes["OUTPUT_KEY"]
    else:
        case.changes["OUTPUT_KEY"] = template
    event = case.put("in/day.jsonl", 2)
    origin = replace(case.jobs.identity(event).origin, source="other", input="other", sequencer="0054")
    case.s3.put("output/in/day.jsonl", b'{"a":1}\n', OUTPUT, Metadata=origin.to_metadata())
    assert case.do(event) == (JobResult.DONE, "output/in/day.jsonl")
    assert case.number("output/in/day.jsonl") == 2


# Outputs of earlier versions, and of others


def existing(case: Case, event: ObjectCreated, place: str, *, named: bool, **changes: Any) -> None:
    """Put an output there, whose metadata name its input or not."""
    origin = replace(case.jobs.identity(event, **case.changes).origin, sequencer="0054", **changes)
    metadata = {name: text for name, text in origin.to_metadata().items() if named or name != "transform-input"}
    case.s3.put(place, b'{"a":7}\n', OUTPUT, Metadata=metadata)


def test_an_output_of_an_earlier_version_where_it_was_always(size: str) -> None:
    case = Case(size, OUTPUT_KEY="{dir}{stem}.jsonl")
    event, place = case.put("in/day.jsonl"), "output/in/day.jsonl"
    existing(case, event, place, named=False, source="earlier")
    assert case.do(event) == (JobResult.DONE, place)
    other = case.put("in/day.json", 2)
    existing(case, event, place, named=False, source="earlier")
    assert case.do(other) == (JobResult.FAILED, refused(UNNAMED, place))
    assert case.number(place) == 7


def test_an_output_of_an_earlier_version_of_the_same_source_is_a_duplicate(size: str) -> None:
    case = Case(size)
    event = case.put("in/day.jsonl")
    existing(case, event, PLACE, named=False)
    assert case.do(replace(event, sequencer="0054"), again=True) == (JobResult.DUPLICATE, PLACE)


def test_what_is_of_another_program_stays(case: Case) -> None:
    event = case.put("in/day.jsonl")
    case.s3.put(PLACE, b'{"a":7}\n', OUTPUT)
    assert case.do(event) == (JobResult.FAILED, refused(UNNAMED))
    assert case.number() == 7


def test_with_several_buckets_it_is_not_known_whose_an_output_was(size: str) -> None:
    case = Case(size, s3InputBucket="incoming,second", OUTPUT_KEY="{key}")
    event, place = case.put("in/day.jsonl"), "output/in/day.jsonl"
    existing(case, event, place, named=False, source="earlier")
    assert case.do(event) == (JobResult.FAILED, refused(UNNAMED, place))


# Several buckets


def test_each_bucket_has_its_outputs(size: str) -> None:
    case = Case(size, s3InputBucket="incoming,second")
    del case.changes["OUTPUT_KEY"]
    one, two = case.put("day.jsonl", 1), case.put("day.jsonl", 2, "second")
    assert case.do(one) == (JobResult.DONE, "output/incoming/day.jsonl")
    assert case.do(two) == (JobResult.DONE, "output/second/day.jsonl")
    assert (case.number("output/incoming/day.jsonl"), case.number("output/second/day.jsonl")) == (1, 2)


def test_buckets_whose_outputs_collide(size: str) -> None:
    case = Case(size, s3InputBucket="incoming,second", OUTPUT_KEY="{key}")
    one, two = case.put("day.jsonl", 1), case.put("day.jsonl", 1, "second")  # the same content
    assert case.do(two) == (JobResult.DONE, "output/day.jsonl")
    assert case.do(one) == taken_by("day.jsonl", "second", "output/day.jsonl")


def test_rejected_lines_of_several_buckets_are_in_folders_of_their_own() -> None:
    one, two = Settings.read(LEAST), Settings.read(LEAST | {"s3InputBucket": "incoming,second"})
    assert rejects_folder(one, "incoming", "a/b", "j") == "rejects/a/b/j/"
    assert rejects_folder(two, "second", "a/b", "j") == "rejects/second/a/b/j/"
    assert len(rejects_folder(two, "second", "é" * 512, "j" * 32).encode()) < 1024


# Dates


def test_the_date_is_that_of_the_version(size: str) -> None:
    """Given an event and a job that are days later than the object."""
    case = Case(size, OUTPUT_KEY=DATED)
    event = case.put("in/day.jsonl")
    case.s3.clock.now += 3 * DAY_S
    submitted = replace(event, sequencer=None, time=datetime.fromtimestamp(NOW_S, UTC))
    live = replace(event, time=datetime.fromtimestamp(NOW_S + DAY_S, UTC))
    assert case.do(live) == (JobResult.DONE, NOVEMBER_14)
    assert case.do(submitted, again=True) == (JobResult.DUPLICATE, NOVEMBER_14)
    assert case.do(replace(submitted, etag=None, size=None))[1] == NOVEMBER_14
    assert case.s3.keys("output/") == [NOVEMBER_14]


@pytest.mark.parametrize("template", [None, STEM, DATED])
def test_a_new_small_job_has_two_requests(template: str | None) -> None:
    case = Case("small")
    case.changes = {} if template is None else {"OUTPUT_KEY": template}
    case.do(case.put("in/day.jsonl"))
    assert case.s3.requests == ["list_objects_v2", "get_object in", "put_object output"]


def test_the_same_content_on_another_day(size: str) -> None:
    case = Case(size, OUTPUT_KEY=DATED)
    case.do(case.put("in/day.jsonl"))
    case.s3.clock.now += DAY_S
    again = replace(case.put("in/day.jsonl"), sequencer="0056")
    assert case.do(again) == (JobResult.DONE, NOVEMBER_15)
    assert case.s3.keys("output/") == [NOVEMBER_14, NOVEMBER_15]


def killed(case: Case, event: ObjectCreated) -> None:
    """Do a job up to its second checkpoint."""
    with pytest.raises(Killed):
        case.do(event, control=Free(lives=2))
    assert len(case.s3.uploads) == 1


def test_a_job_goes_on_under_the_date_of_its_upload() -> None:
    """Given that the same content was uploaded again meanwhile, on the next day."""
    case = Case("multipart", OUTPUT_KEY=DATED)
    first = case.put("in/day.jsonl")
    killed(case, first)
    (upload,) = case.s3.uploads
    case.s3.clock.now += DAY_S
    second = replace(case.put("in/day.jsonl"), sequencer="0056")
    assert case.do(first, again=True) == (JobResult.DONE, NOVEMBER_14)
    assert upload not in case.s3.uploads
    assert case.do(second, again=True) == (JobResult.DONE, NOVEMBER_15)
    assert case.jobs.left() == []


def test_a_newer_event_does_not_go_on_with_the_upload_of_the_day_before() -> None:
    case = Case("multipart", OUTPUT_KEY=DATED)
    killed(case, case.put("in/day.jsonl"))
    case.s3.clock.now += DAY_S
    second = replace(case.put("in/day.jsonl"), sequencer="0056")
    assert case.do(second, again=True) == (JobResult.DONE, NOVEMBER_15)
    assert case.s3.keys("output/") == [NOVEMBER_15]
    assert case.jobs.left() == []


def test_an_upload_of_another_template_is_not_continued() -> None:
    """Given a deployment with another OUTPUT_KEY while a job runs."""
    case = Case("multipart")
    event = case.put("in/day.jsonl")
    killed(case, event)
    case.s3.clock.now += 1000
    case.changes = {"OUTPUT_KEY": "{stem}.jsonl"}
    assert case.do(event, again=True) == (JobResult.DONE, "output/day.jsonl")
    assert case.s3.keys("output/") == ["output/day.jsonl"]
    assert case.jobs.left() == []


def test_an_upload_of_another_prefix_is_left_to_a_sweep() -> None:
    case = Case("multipart")
    event = case.put("in/day.jsonl")
    killed(case, event)
    case.s3.clock.now += 1000
    assert case.do(event, again=True, OUTPUT_PREFIX="elsewhere/")[0] is JobResult.DONE
    assert [key for _, key, *_ in case.s3.uploads.values()] == [PLACE]
    assert case.s3.keys("checkpoints/") == []


def test_an_input_that_is_gone_has_no_date() -> None:
    case = Case("multipart", OUTPUT_KEY=DATED)
    event = case.put("in/day.jsonl")
    killed(case, event)
    case.s3.clock.now += 1000
    del case.s3.objects[INPUT, "in/day.jsonl"]
    assert case.do(event, again=True)[0] is JobResult.SUPERSEDED
    assert case.jobs.left() == []


def test_the_checkpoint_and_the_index_say_where_the_output_is() -> None:
    case = Case("multipart", OUTPUT_KEY=DATED)
    event = case.put("in/day.jsonl")
    killed(case, event)
    (checkpoint,) = case.s3.keys("checkpoints/")
    told = json.loads(case.s3.content(checkpoint) or b"")
    assert (told["output"], told["about"]["output"]) == (NOVEMBER_14, f"s3://outgoing/{NOVEMBER_14}")
    small = Case("small", OUTPUT_KEY=DATED)
    small.s3.put("day.jsonl", b'{"a":1}\n!\n')
    small.do(small.jobs.event(key="day.jsonl"))
    (index,) = [key for key in small.s3.keys("rejects/") if key.endswith("index.json")]
    assert json.loads(small.s3.content(index) or b"")["output"] == f"s3://outgoing/{NOVEMBER_14}"


# Compression


@pytest.mark.parametrize(
    ("template", "encoding", "kept", "read"),
    [
        ("{stem}.jsonl.zst", None, None, zstd.decompress),
        ("{stem}.jsonl.gz", "gzip", "gzip", gzip.decompress),
        ("{stem}.jsonl.zst", "gzip", None, zstd.decompress),  # the key decides
        ("{stem}.jsonl", "gzip", "gzip", gzip.decompress),
        ("{stem}.jsonl", None, None, bytes),
    ],
)
def test_the_output_is_compressed_as_its_own_key_says(
    size: str, template: str, encoding: str | None, kept: str | None, read: Callable[[bytes], bytes]
) -> None:
    case = Case(size, OUTPUT_KEY=template)
    headers = {"ContentType": "application/x-ndjson"} | ({"ContentEncoding": encoding} if encoding else {})
    content = CONTENTS[size] % 1 * LINES[size]
    case.s3.put("in/day.jsonl.gz", content, INPUT, **headers)
    assert case.do(case.jobs.event(key="in/day.jsonl.gz"))[0] is JobResult.DONE
    stored = case.s3.objects[OUTPUT, f"output/{template.format(stem='day')}"]
    assert read(stored.content) == content.replace(b"}", b',"b":2}')
    assert stored.headers["ContentType"] == "application/x-ndjson"
    assert stored.headers.get("ContentEncoding") == kept


# Keys that cannot be


def settings_with(**changes: str) -> Settings:
    return Settings.read(LEAST | changes)


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        (
            {"OUTPUT_KEY": "{stem}-{key}"},
            "x" * 600,
            "would have 1208 bytes, and S3 takes 1024: shorten OUTPUT_PREFIX, OUT",
        ),
        ({"OUTPUT_KEY": "{name}", "OUTPUT_PREFIX": ""}, "a/rejects", None),
        (
            {"OUTPUT_KEY": "{name}/a", "OUTPUT_PREFIX": ""},
            "a/rejects",
            "must give no key that starts with REJECTS_PREFIX",
        ),
        ({"OUTPUT_KEY": "{name}", "OUTPUT_PREFIX": ""}, "a/", "would be empty"),
        ({"OUTPUT_PREFIX": ""}, "checkpoints/x.json", "no input's key may start with REJECTS_PREFIX"),
    ],
)
def test_keys_that_cannot_be(changes: dict[str, str], key: str, reason: str | None) -> None:
    settings = settings_with(**changes)
    if reason is None:
        assert output_key(settings, INPUT, key) == "rejects"
        return
    with pytest.raises(ImpossibleError, match=reason):
        output_key(settings, INPUT, key)


def test_a_key_that_cannot_be_fails_the_job(size: str) -> None:
    for template in ("{stem}-{key}", "{date:%Y}-{stem}-{key}"):
        case = Case(size, OUTPUT_KEY=template)
        kind, reason = case.do(case.put("x" * 600))
        assert (kind, "S3 takes 1024" in reason) == (JobResult.FAILED, True)
        assert case.jobs.left() == []


def test_outputs_among_the_workers_own_objects_are_refused_at_the_start() -> None:
    for start in ("rejects/", "checkpoints/x"):
        with pytest.raises(SettingsError, match=r"OUTPUT_KEY: found .* expected no output below"):
            settings_with(OUTPUT_PREFIX="", OUTPUT_KEY=f"{start}{{key}}")


def test_metadata_name_the_input() -> None:
    case = Case("small")
    case.do(case.put("in/day.jsonl"))
    metadata = case.s3.objects[OUTPUT, PLACE].headers["Metadata"]
    assert metadata["transform-input"] == input_of(INPUT, "in/day.jsonl")
    found = Origin.from_metadata(metadata)
    assert found is not None
    assert found.to_metadata() == metadata
    settings = settings_with(OUTPUT_KEY=STEM)
    assert not found.is_of_another(found, sharing_of(settings, "in/day.jsonl", PLACE))
