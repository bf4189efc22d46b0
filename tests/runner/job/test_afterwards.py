"""What a job does with its input once its output exists: nothing, a tag, or its end."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runner.errors import StoppedError
from runner.job.protocol import InputOutcome, InputResult, JobResult
from tests.support.example import lines, transformed
from tests.support.jobs import KEY, OUTPUT, SENT, Free, Jobs
from tests.support.proxy import Cut, Refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.s3_events import ObjectCreated
    from tests.support.proxy import Fault, Proxy, Request

SMALL = lines(3)
MARK = {"Key": "jsonl-transform", "Value": "done"}
DELETED, TAGGED = InputOutcome(InputResult.DELETED), InputOutcome(InputResult.TAGGED)
GONE = InputOutcome(InputResult.GONE)


def versions_of(jobs: Jobs) -> list[tuple[str, bool]]:
    """Return the versions of the input and whether each is the current one, the newest first."""
    found = jobs.deployment.s3.list_object_versions(Bucket=jobs.deployment.input, Prefix=KEY)
    return [(one["VersionId"], one["IsLatest"]) for one in found.get("Versions", ())]


def keep_versions(jobs: Jobs) -> None:
    jobs.deployment.s3.put_bucket_versioning(
        Bucket=jobs.deployment.input, VersioningConfiguration={"Status": "Enabled"}
    )


def suspend_versions(jobs: Jobs) -> None:
    keep_versions(jobs)
    jobs.deployment.s3.put_bucket_versioning(
        Bucket=jobs.deployment.input, VersioningConfiguration={"Status": "Suspended"}
    )


def put(jobs: Jobs, content: bytes = SMALL, tagging: str = "") -> ObjectCreated:
    """Put the input; return its event, with its version if the bucket has them."""
    options = {"Tagging": tagging} if tagging else {}
    answer = jobs.deployment.s3.put_object(Bucket=jobs.deployment.input, Key=KEY, Body=content, **options)
    return replace(jobs.event(), version_id=answer.get("VersionId"))


def exists(jobs: Jobs) -> bool:
    found = jobs.deployment.s3.list_objects_v2(Bucket=jobs.deployment.input, Prefix=KEY)
    return bool(found.get("Contents"))


def tags_of(jobs: Jobs, version: str | None = None) -> list[dict[str, str]]:
    options = {"VersionId": version} if version else {}
    found = jobs.deployment.s3.get_object_tagging(Bucket=jobs.deployment.input, Key=KEY, **options)
    return sorted(found["TagSet"], key=lambda tag: tag["Key"])


def before(operation: str, act: Callable[[], object]) -> Callable[[Request], Fault | None]:
    """Return a rule that has something happen just before the first request of an operation about the input."""
    done: list[bool] = []

    def rule(request: Request) -> Fault | None:
        if (request.operation, request.key) == (operation, KEY) and not done:
            done.append(True)
            act()
        return None

    return rule


def refusing(fault: Fault, *operations: str) -> Callable[[Request], Fault | None]:
    return lambda request: fault if request.key == KEY and request.operation in operations else None


# Nothing


def test_an_input_is_kept_and_not_looked_at_unless_something_is_asked_for(jobs: Jobs, proxy: Proxy) -> None:
    put(jobs)
    assert jobs.do().input is None
    assert [one.operation for one in proxy.requests if one.key == KEY] == ["GetObject"]
    assert exists(jobs)


# It is deleted


@pytest.mark.parametrize("versioned", [False, True])
def test_an_input_is_deleted_once_its_output_is_published(jobs: Jobs, proxy: Proxy, versioned: bool) -> None:
    if versioned:
        keep_versions(jobs)
    event = put(jobs)
    outcome = jobs.do(event, AFTER="delete")
    assert (outcome.kind, outcome.input, exists(jobs)) == (JobResult.DONE, DELETED, False)
    assert jobs.output() == transformed(3)
    changes = [(one.operation, one.key) for one in proxy.requests if one.operation in ("PutObject", "DeleteObject")]
    assert changes[-2:] == [("PutObject", OUTPUT), ("DeleteObject", KEY)]


def test_a_version_stays_below_the_delete_marker(jobs: Jobs) -> None:
    """Given an older version as well, which does not become the current one again."""
    keep_versions(jobs)
    put(jobs, lines(1))
    event = put(jobs)
    before_, outcome = versions_of(jobs), jobs.do(event, AFTER="delete")
    assert outcome.input == DELETED
    assert [version for version, _ in versions_of(jobs)] == [version for version, _ in before_]
    assert not exists(jobs)
    assert [latest for _, latest in versions_of(jobs)] == [False, False]
    found = jobs.deployment.s3.list_object_versions(Bucket=jobs.deployment.input, Prefix=KEY)
    (marker,) = found["DeleteMarkers"]
    jobs.deployment.s3.delete_object(Bucket=jobs.deployment.input, Key=KEY, VersionId=marker["VersionId"])
    assert jobs.deployment.s3.get_object(Bucket=jobs.deployment.input, Key=KEY)["Body"].read() == SMALL


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("moment", ["HeadObject", "DeleteObject"])
def test_an_input_that_was_overwritten_is_not_deleted(jobs: Jobs, proxy: Proxy, versioned: bool, moment: str) -> None:
    if versioned:
        keep_versions(jobs)
    event = put(jobs)
    proxy.rule = before(moment, lambda: put(jobs, lines(5)))
    outcome = jobs.do(event, AFTER="delete")
    assert (outcome.kind, outcome.input) == (JobResult.DONE, GONE)
    assert jobs.deployment.s3.get_object(Bucket=jobs.deployment.input, Key=KEY)["Body"].read() == lines(5)


def test_a_newer_version_with_the_same_content_is_not_deleted(jobs: Jobs) -> None:
    keep_versions(jobs)
    event = put(jobs)
    assert jobs.do(event).kind is JobResult.DONE
    put(jobs, lines(5))
    put(jobs)
    outcome = jobs.do(event, AFTER="delete")
    assert (outcome.kind, outcome.input) == (JobResult.DUPLICATE, GONE)
    assert exists(jobs)


def test_an_input_that_is_gone_already_is_no_failure(jobs: Jobs, proxy: Proxy) -> None:
    event = put(jobs)
    assert jobs.do(event, AFTER="delete").input == DELETED
    again = jobs.do(event, again=True, AFTER="delete")
    assert (again.kind, again.input) == (JobResult.DUPLICATE, GONE)
    assert jobs.do(event, AFTER="delete").kind is JobResult.DUPLICATE, "without a look at the output first"
    assert (proxy.count("DeleteObject"), jobs.output()) == (1, transformed(3))


def test_a_job_that_finds_its_output_deletes_the_input(jobs: Jobs) -> None:
    """Given a process that has died after it had published."""
    event = put(jobs)
    assert jobs.do(event).input is None
    outcome = jobs.do(event, again=True, AFTER="delete")
    assert (outcome.kind, outcome.input, exists(jobs)) == (JobResult.DUPLICATE, DELETED, False)


def test_the_input_of_a_job_that_fails_stays(jobs: Jobs) -> None:
    for content, again in ((b"bad\n", False), (b"bad\n", True)):
        event = put(jobs, content)
        outcome = jobs.do(event, again=again, AFTER="delete")
        assert (outcome.kind, outcome.input, exists(jobs)) == (JobResult.FAILED, None, True)


@pytest.mark.parametrize(("after", "outcome"), [("delete", DELETED), ("tag", TAGGED)])
def test_the_output_of_a_later_calculation_finishes_the_input(jobs: Jobs, after: str, outcome: InputOutcome) -> None:
    """Its job may be about another version with the same content, which is not this one."""
    keep_versions(jobs)
    other = put(jobs)
    event = put(jobs)
    newer = replace(jobs.origin(other), digest="0" * 32, sent=SENT + 1, first_sent=SENT + 1)
    jobs.put_output(b"another calculation's", newer)
    for again in (False, True):
        found = jobs.do(event, again=again, AFTER=after)
        assert (found.kind, found.input) == (JobResult.STALE, GONE if again and after == "delete" else outcome)


def test_rejected_lines_of_a_later_calculation_keep_the_input(jobs: Jobs) -> None:
    event = put(jobs, SMALL + LONG)
    assert jobs.do(event, sent=SENT + 1, MAX_LINE_BYTES=str(LIMIT)).kind is JobResult.DONE
    outcome = jobs.do(event, AFTER="delete", MAX_LINE_BYTES=str(2 * LIMIT))
    assert outcome.input is not None
    assert (outcome.kind, outcome.input.kind, exists(jobs)) == (JobResult.STALE, InputResult.KEPT, True)
    assert outcome.input.reason.startswith("of 1 rejected lines")


def test_the_input_of_a_stale_or_superseded_job_stays(jobs: Jobs) -> None:
    put(jobs, lines(5))
    newer = jobs.origin(replace(jobs.event(), sequencer="F"))
    event = replace(put(jobs), sequencer="1")
    jobs.put_output(b"of a newer content", newer)
    put(jobs, lines(5))
    stale = jobs.do(event, again=True, AFTER="delete")
    assert (stale.kind, stale.input) == (JobResult.STALE, None)
    jobs.deployment.s3.delete_object(Bucket=jobs.deployment.output, Key=OUTPUT)
    superseded = jobs.do(event, AFTER="delete")
    assert (superseded.kind, superseded.input, exists(jobs)) == (JobResult.SUPERSEDED, None, True)


def test_the_input_of_a_job_that_was_cancelled_after_it_was_done_stays(jobs: Jobs) -> None:
    event = put(jobs)
    assert jobs.do(event).kind is JobResult.DONE
    key = f"checkpoints/cancelled/{jobs.origin(event).source}.json"
    jobs.deployment.s3.put_object(Bucket=jobs.deployment.output, Key=key, Body=b"{}")
    outcome = jobs.do(event, again=True, AFTER="delete")
    assert outcome.input is not None
    assert (outcome.kind, outcome.input.kind, exists(jobs)) == (JobResult.DUPLICATE, InputResult.KEPT, True)
    assert "cancelled by an operator" in outcome.input.reason


@pytest.mark.parametrize("version", [None, "null"])
@pytest.mark.parametrize("after", ["delete", "tag"])
def test_a_content_whose_output_was_not_published_is_left_alone(jobs: Jobs, version: str | None, after: str) -> None:
    """Given contents of one key that have no versions, or all the same one."""
    suspend_versions(jobs)
    event = replace(put(jobs), version_id=version)
    assert jobs.do(event).kind is JobResult.DONE
    put(jobs, lines(5))
    outcome = jobs.do(event, again=True, AFTER=after)
    assert (outcome.kind, outcome.input) == (JobResult.DUPLICATE, GONE)
    assert (exists(jobs), tags_of(jobs)) == (True, [])


@pytest.mark.parametrize("version", [None, "null"])
def test_an_event_that_names_no_content_is_about_the_current_one(jobs: Jobs, version: str | None) -> None:
    suspend_versions(jobs)
    event = replace(put(jobs), etag=None, size=None, version_id=version)
    assert jobs.do(event, AFTER="tag").input == TAGGED
    put(jobs, lines(5))
    outcome = jobs.do(event, again=True, AFTER="delete")
    assert (outcome.kind, outcome.input, jobs.output()) == (JobResult.DONE, DELETED, transformed(5))
    assert jobs.do(event, again=True, AFTER="delete").kind is JobResult.SUPERSEDED


def test_nothing_is_deleted_when_the_lease_is_over(jobs: Jobs) -> None:
    event = put(jobs)
    assert jobs.do(event).kind is JobResult.DONE

    def is_over() -> None:
        raise StoppedError("the lease is over")

    outcome = jobs.do(event, again=True, control=Free(check_lease=is_over), AFTER="delete")
    assert outcome.input == InputOutcome(InputResult.FAILED, "the lease is over", may_succeed=True)
    assert exists(jobs)


# Rejected lines


LIMIT = 70_000
LONG = b'{"a":"' + b"x" * LIMIT + b'"}\n'


def test_rejected_lines_that_are_kept_whole_do_not_keep_the_input(jobs: Jobs) -> None:
    event = put(jobs, SMALL + b"bad\n" + b"y" * (LIMIT - 1) + b"\n")
    outcome = jobs.do(event, AFTER="delete", MAX_LINE_BYTES=str(LIMIT))
    assert (outcome.summary["rejected"], outcome.summary["rejects_truncated"]) == (2, 0)
    assert (outcome.kind, outcome.input, exists(jobs)) == (JobResult.DONE, DELETED, False)


@pytest.mark.parametrize("found", [False, True])
def test_an_input_with_the_only_copy_of_a_rejected_line_is_kept(jobs: Jobs, found: bool) -> None:
    event = put(jobs, SMALL + LONG + b"bad\n" + LONG)
    if found:
        assert jobs.do(event, MAX_LINE_BYTES=str(LIMIT)).kind is JobResult.DONE
    outcome = jobs.do(event, again=found, AFTER="delete", MAX_LINE_BYTES=str(LIMIT))
    assert outcome.input is not None
    assert (outcome.kind, outcome.input.kind) == (JobResult.DUPLICATE if found else JobResult.DONE, InputResult.KEPT)
    assert outcome.input.reason.startswith("of 2 rejected lines the input has the only whole copy")
    assert exists(jobs)


def test_an_input_whose_rejected_lines_were_left_out_is_kept(jobs: Jobs) -> None:
    event = put(jobs, SMALL + b"bad\n" * 3)
    jobs.context["max_reject_bytes"] = 100
    outcome = jobs.do(event, AFTER="delete")
    assert outcome.input is not None
    assert (outcome.input.kind, exists(jobs)) == (InputResult.KEPT, True)
    again = jobs.do(event, again=True, AFTER="delete")
    assert again.input == outcome.input


def test_an_index_that_does_not_say_what_is_incomplete_keeps_the_input(jobs: Jobs) -> None:
    event = put(jobs, SMALL + b"bad\n")
    assert jobs.do(event).kind is JobResult.DONE
    (name,) = (key for key in jobs.deployment.stored_keys("rejects/") if key.endswith("index.json"))
    index = json.loads(jobs.deployment.content(name) or b"")
    del index["truncated"]
    jobs.deployment.s3.put_object(Bucket=jobs.deployment.output, Key=name, Body=json.dumps(index).encode())
    outcome = jobs.do(event, again=True, AFTER="delete")
    assert outcome.input is not None
    assert (outcome.input.kind, exists(jobs)) == (InputResult.KEPT, True)


# It is tagged


@pytest.mark.parametrize("versioned", [False, True])
def test_an_input_is_tagged_beside_its_other_tags(jobs: Jobs, proxy: Proxy, versioned: bool) -> None:
    if versioned:
        keep_versions(jobs)
    event = put(jobs, tagging="team=a%26b")
    outcome = jobs.do(event, AFTER="tag")
    assert (outcome.kind, outcome.input) == (JobResult.DONE, TAGGED)
    assert tags_of(jobs) == [MARK, {"Key": "team", "Value": "a&b"}]
    again = jobs.do(event, again=True, AFTER="tag")
    assert (again.kind, again.input) == (JobResult.DUPLICATE, TAGGED)
    assert proxy.count("PutObjectTagging") == 1, "it is there already"


def test_the_tag_is_that_of_the_setting(jobs: Jobs) -> None:
    event = put(jobs)
    assert jobs.do(event, AFTER="tag", AFTER_TAG="state=read=1").input == TAGGED
    assert tags_of(jobs) == [{"Key": "state", "Value": "read=1"}]


def test_an_output_does_not_get_the_tag(jobs: Jobs) -> None:
    for tagging in ("team=a&jsonl-transform=done", "jsonl-transform=done"):
        event = put(jobs, tagging=tagging)
        assert jobs.do(event, sent=SENT + 1).kind is JobResult.DONE
        found = jobs.deployment.s3.get_object_tagging(Bucket=jobs.deployment.output, Key=OUTPUT)["TagSet"]
        assert found == ([{"Key": "team", "Value": "a"}] if "team" in tagging else [])
        jobs.deployment.s3.delete_object(Bucket=jobs.deployment.output, Key=OUTPUT)


@pytest.mark.parametrize("told", [True, False])
def test_an_output_gets_the_tags_of_the_version_that_was_read(jobs: Jobs, proxy: Proxy, told: bool) -> None:
    keep_versions(jobs)
    event = put(jobs, tagging="team=a")
    proxy.rule = before("GetObjectTagging", lambda: put(jobs, lines(5), tagging="team=b"))
    assert jobs.do(event if told else replace(event, version_id=None)).kind is JobResult.DONE
    found = jobs.deployment.s3.get_object_tagging(Bucket=jobs.deployment.output, Key=OUTPUT)["TagSet"]
    assert found == [{"Key": "team", "Value": "a"}]


@pytest.mark.parametrize("told", [True, False])
def test_exactly_the_version_that_was_read_is_tagged(jobs: Jobs, proxy: Proxy, told: bool) -> None:
    """Even if the event does not tell which one it is about."""
    keep_versions(jobs)
    event = put(jobs)
    proxy.rule = before("PutObjectTagging", lambda: put(jobs, lines(5)))
    assert jobs.do(event if told else replace(event, version_id=None), AFTER="tag").input == TAGGED
    assert (tags_of(jobs, event.version_id), tags_of(jobs)) == ([MARK], [])


def test_a_version_that_is_gone_is_not_tagged(jobs: Jobs) -> None:
    keep_versions(jobs)
    event = put(jobs)
    assert jobs.do(event).kind is JobResult.DONE
    put(jobs, lines(5))
    jobs.deployment.s3.delete_object(Bucket=jobs.deployment.input, Key=KEY, VersionId=event.version_id)
    assert jobs.do(event, again=True, AFTER="tag").input == GONE
    assert tags_of(jobs) == []


def test_an_input_without_versions_that_was_overwritten_is_not_tagged(jobs: Jobs, proxy: Proxy) -> None:
    event = put(jobs)
    proxy.rule = before("HeadObject", lambda: put(jobs, lines(5)))
    assert jobs.do(event, AFTER="tag").input == GONE
    assert tags_of(jobs) == []


def test_an_input_with_ten_tags_gets_no_other(jobs: Jobs) -> None:
    tagging = "&".join(f"t{number}=x" for number in range(10))
    event = put(jobs, tagging=tagging)
    outcome = jobs.do(event, AFTER="tag")
    assert outcome.input is not None
    assert (outcome.kind, outcome.input.kind, outcome.input.may_succeed) == (JobResult.DONE, InputResult.FAILED, False)
    assert "it has 10 other tags, and S3 allows no more" in outcome.input.reason
    assert len(tags_of(jobs)) == 10
    assert jobs.do(event, again=True, AFTER="tag", AFTER_TAG="t3=y").input == TAGGED


# It cannot be


@pytest.mark.parametrize(("after", "operation"), [("delete", "DeleteObject"), ("tag", "PutObjectTagging")])
def test_a_denial_does_not_fail_the_job(jobs: Jobs, proxy: Proxy, after: str, operation: str) -> None:
    event = put(jobs)
    proxy.rule = refusing(Refuse(403, "AccessDenied"), operation)
    outcome = jobs.do(event, AFTER=after)
    assert outcome.input is not None
    assert (outcome.kind, outcome.input.kind, outcome.input.may_succeed) == (JobResult.DONE, InputResult.FAILED, False)
    assert "AccessDenied" in outcome.input.reason
    assert jobs.output() == transformed(3)


@pytest.mark.parametrize("fault", [Refuse(503, "SlowDown"), Refuse(409, "ConditionalRequestConflict"), Cut(False)])
def test_what_may_succeed_later_is_tried_again(jobs: Jobs, proxy: Proxy, fault: Fault) -> None:
    event = put(jobs)
    proxy.rule = refusing(fault, "DeleteObject")
    outcome = jobs.do(event, AFTER="delete")
    assert outcome.input is not None
    assert (outcome.kind, outcome.input.kind, outcome.input.may_succeed) == (JobResult.DONE, InputResult.FAILED, True)
    proxy.rule = lambda _: None
    assert jobs.do(event, again=True, AFTER="delete").input == DELETED


def test_an_answer_that_is_lost_leaves_nothing_to_do(jobs: Jobs, proxy: Proxy) -> None:
    event = put(jobs)
    proxy.rule = refusing(Cut(passed_on=True), "DeleteObject")
    jobs.do(event, AFTER="delete")
    assert not exists(jobs)
    assert jobs.do(event, again=True, AFTER="delete").input == GONE
