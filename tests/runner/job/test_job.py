"""A job from its order to its outcome: which requests it makes, in which order, and what it leaves behind."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.s3_events import ObjectCreated
from runner.errors import ImpossibleError
from runner.job.checkpoint import Checkpoint
from runner.job.context import JobContext
from runner.job.identity import JobIdentity
from runner.job.progress import JobProgress
from runner.job.protocol import JobResult, Order
from tests.support import memory
from tests.support.deployment import CLAIM
from tests.support.example import lines
from tests.support.jobs import KEY, OUTPUT, SENT, Free, Jobs, Killed
from tests.support.proxy import Refuse

if TYPE_CHECKING:
    from tests.support.proxy import Proxy

SMALL, SMALL_OUTPUT = b'{"a":1}\n', b'{"a":1,"b":2}\n'
PAD_BYTES = 8000
LARGE = lines(3500, PAD_BYTES)  # 28 MB: three parts of two chunks each, and a rest


def requests_of(proxy: Proxy) -> list[str]:
    """Return the requests about objects, by operation and the first folder of the key, without those for the claim."""
    keyed = [one for one in proxy.requests if one.key and one.key != CLAIM]
    return [f"{one.operation} {one.key.partition('/')[0]}" for one in keyed]


def identity_of(jobs: Jobs, event: ObjectCreated) -> JobIdentity:
    context = JobContext.open(jobs.settings(), os.environ)
    return JobIdentity.from_order(context, Order(event, SENT, 1, tried_before=False, first_sent=SENT))


# What a job is


def test_identity_has_all_keys_before_anything_is_read(jobs: Jobs) -> None:
    event = ObjectCreated(jobs.deployment.input, KEY, "v1", "e1", 5, None, None)
    identity = identity_of(jobs, event)
    assert identity.output_key == OUTPUT
    assert identity.checkpoint_key == f"checkpoints/{identity.id}.json"
    assert identity.cancellation_key == f"checkpoints/cancelled/{identity.origin.source}.json"
    assert identity.rejects_folder == f"rejects/{KEY}/{identity.id}/"
    assert {name: identity.about[name] for name in ("job", "source", "etag", "version", "output", "digest")} == {
        "job": identity.id,
        "source": f"s3://{jobs.deployment.input}/{KEY}",
        "etag": "e1",
        "version": "v1",
        "output": f"s3://{jobs.deployment.output}/{OUTPUT}",
        "digest": identity.digest,
    }


def test_identity_is_of_the_content_and_the_calculation(jobs: Jobs) -> None:
    def job(etag: str, sequencer: str = "01", **changes: str) -> str:
        jobs.changes |= changes
        return identity_of(jobs, ObjectCreated(jobs.deployment.input, KEY, None, etag, 5, sequencer, None)).id

    first = job("e1")
    assert job("e1", "02") == first, "delivered again, it is the same job"
    assert job("e2") != first
    assert job("e1", CALCULATION="a + 2 AS b") != first


def test_a_key_that_leaves_no_room_for_the_output_prefix_is_impossible(jobs: Jobs) -> None:
    event = ObjectCreated(jobs.deployment.input, "k" * 1020, None, "e1", 5, None, None)
    with pytest.raises(ImpossibleError, match="would have 1027 bytes"):
        identity_of(jobs, event)


# A small job


def test_a_new_small_job_takes_one_get_and_one_put(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, SMALL)
    outcome = jobs.do()
    assert (outcome.kind, jobs.output()) == (JobResult.DONE, SMALL_OUTPUT)
    assert [one for one in requests_of(proxy) if not one.startswith("ListObjects")] == [
        "GetObject in",
        "PutObject output",
    ]
    assert outcome.etag == jobs.deployment.s3.head_object(Bucket=jobs.deployment.output, Key=OUTPUT)["ETag"]


def test_a_job_that_was_begun_before_looks_at_its_checkpoint_and_its_output_first(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, SMALL)
    assert jobs.do(again=True).kind is JobResult.DONE
    assert requests_of(proxy)[:3] == ["GetObject checkpoints", "HeadObject output", "GetObject in"]
    proxy.requests.clear()
    assert jobs.do(again=True).kind is JobResult.DUPLICATE
    assert "GetObject in" not in requests_of(proxy), "what is published already is not read again"


def test_a_name_to_drop_that_no_line_has_is_among_the_notes(jobs: Jobs) -> None:
    jobs.deployment.put(KEY, b'{"a":1,"email":"e","x,y":1}\n{"a":2}\n')
    outcome = jobs.do(DROP='Email, "x,y"')
    assert (outcome.kind, jobs.output()) == (JobResult.DONE, b'{"a":1,"email":"e","b":2}\n{"a":2,"b":3}\n')
    assert outcome.summary["notes"] == ["no line that was kept has a member `Email` to drop. Did you mean `email`?"]


def test_the_output_keeps_what_is_said_of_the_input(jobs: Jobs) -> None:
    s3, deployment = jobs.deployment.s3, jobs.deployment
    s3.put_object(
        Bucket=deployment.input, Key=KEY, Body=SMALL, ContentType="application/x-ndjson", Tagging="team=a%20b&x=1"
    )
    written = s3.head_object(Bucket=deployment.input, Key=KEY)["LastModified"]
    assert jobs.do().kind is JobResult.DONE
    found = s3.head_object(Bucket=deployment.output, Key=OUTPUT)
    tags = s3.get_object_tagging(Bucket=deployment.output, Key=OUTPUT)["TagSet"]
    assert found["ContentType"] == "application/x-ndjson"
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "a b", "x": "1"}
    assert found["Metadata"]["transform-modified"] == str(int(written.timestamp() * 1000))
    assert found["Metadata"]["transform-source"] == jobs.origin().source


def test_an_encoding_that_cannot_be_read_fails_the_job_and_leaves_nothing(jobs: Jobs) -> None:
    s3, deployment = jobs.deployment.s3, jobs.deployment
    s3.put_object(Bucket=deployment.input, Key=KEY, Body=b"\x0b\x02\x80{}\x03", ContentEncoding="br")
    outcome = jobs.do()
    assert outcome.kind is JobResult.FAILED
    assert "Content-Encoding is `br`" in outcome.reason
    assert (jobs.output(), jobs.left()) == (None, [])


# A job of several parts


def test_a_checkpoint_stands_before_the_first_part_and_goes_after_the_output_appears(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, LARGE)
    jobs.context["max_parts_in_flight"] = 0
    control = Free()
    outcome = jobs.do(control=control)
    assert outcome.kind is JobResult.DONE
    assert jobs.left() == []
    kinds = [one for one in requests_of(proxy) if one.endswith(("output", "checkpoints"))]
    parts = kinds.count("UploadPart output")
    assert parts >= 3
    assert kinds[:5] == [
        "GetObject checkpoints",
        "HeadObject output",
        "CreateMultipartUpload output",
        "PutObject checkpoints",
        "UploadPart output",
    ]
    assert kinds[-2:] == ["CompleteMultipartUpload output", "DeleteObject checkpoints"]
    last_note = len(kinds) - kinds[::-1].index("PutObject checkpoints")
    assert "HeadObject output" in kinds[last_note:], "it looks again before it publishes"
    assert control.offsets == sorted(set(control.offsets)), "each checkpoint is further on than the one before"


def test_a_checkpoint_names_only_parts_that_have_arrived(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, LARGE)
    jobs.context["max_parts_in_flight"] = 0
    seen = list[int]()

    class Looking(Free):
        def note_checkpoint(self, offset: int) -> None:
            super().note_checkpoint(offset)
            (key,) = jobs.deployment.stored_keys("checkpoints/")
            content = jobs.deployment.content(key)
            assert content is not None
            progress = JobProgress.from_json(content)
            assert progress.state.summary.bytes_in == offset
            assert [part.number for part in progress.parts] == [*range(1, len(progress.parts) + 1)]
            assert len(progress.parts) == proxy.count("UploadPart")
            seen.append(len(progress.parts))

    assert jobs.do(control=Looking()).kind is JobResult.DONE
    assert seen == [*range(1, len(seen) + 1)]
    assert len(seen) >= 3


def test_an_upload_that_is_not_noted_is_aborted(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, LARGE)
    proxy.rule = lambda request: (
        Refuse(412, "PreconditionFailed")
        if request.operation == "PutObject" and request.key.startswith("checkpoints/") and request.key != CLAIM
        else None
    )
    outcome = jobs.do()
    assert outcome.kind is JobResult.FENCED
    assert jobs.deployment.uploads() == []
    assert proxy.count("UploadPart") == 0


def test_a_job_that_another_message_is_working_on_is_left_alone(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, LARGE)
    context = JobContext.open(jobs.settings(), os.environ)
    identity = JobIdentity.from_order(context, Order(jobs.event(), SENT, 1, tried_before=True, first_sent=SENT))
    upload = context.store.call("create_multipart_upload", Key=OUTPUT)["UploadId"]
    Checkpoint(context.store, identity.checkpoint_key).write(JobProgress(upload, owner="another", lease_s=600))
    before = jobs.left()
    proxy.requests.clear()
    outcome = jobs.do(again=True)
    assert outcome.kind is JobResult.BUSY
    assert jobs.left() == before
    assert not {"PutObject", "UploadPart", "AbortMultipartUpload", "DeleteObject"} & {
        r.operation for r in proxy.requests
    }


# How else it ends


def test_a_cancelled_job_reads_nothing(jobs: Jobs, proxy: Proxy) -> None:
    jobs.deployment.put(KEY, SMALL)
    identity = identity_of(jobs, jobs.event())
    jobs.deployment.s3.put_object(Bucket=jobs.deployment.output, Key=identity.cancellation_key, Body=b"{}")
    proxy.requests.clear()
    outcome = jobs.do()
    assert outcome.kind is JobResult.CANCELLED
    assert "GetObject in" not in requests_of(proxy)
    assert jobs.output() is None


@pytest.mark.parametrize("before", [b"", SMALL])
def test_rejected_lines_of_a_job_that_fails_are_kept_with_their_reasons(jobs: Jobs, before: bytes) -> None:
    jobs.deployment.put(KEY, before + b"nope\n")
    outcome = jobs.do(MAX_REJECTS="0")
    assert (outcome.kind, jobs.output()) == (JobResult.FAILED, None)
    assert outcome.rejects == identity_of(jobs, jobs.event()).rejects_folder
    (index_key,) = [key for key in jobs.deployment.stored_keys("rejects/") if key.endswith("index.json")]
    index: dict[str, Any] = json.loads(jobs.deployment.content(index_key) or b"")
    assert (index["outcome"], index["rejected"]) == ("failed", 1)
    kept = b"".join(jobs.deployment.content(key) or b"" for key in index["objects"])
    assert [json.loads(line)["raw"] for line in kept.splitlines()] == ["nope"]


def test_an_input_without_an_etag_in_its_event_is_read_as_it_is_now(jobs: Jobs) -> None:
    jobs.deployment.put(KEY, SMALL)
    event = ObjectCreated(jobs.deployment.input, KEY, None, None, None, None, None)
    assert jobs.do(event).kind is JobResult.DONE
    assert jobs.output() == SMALL_OUTPUT
    gone = ObjectCreated(jobs.deployment.input, "in/gone.jsonl", None, None, None, None, None)
    assert jobs.do(gone).kind is JobResult.SUPERSEDED


# What a job that is asked for again makes of an upload from before


@pytest.mark.parametrize("moment", ["before", "at the end"])
@pytest.mark.parametrize("asked_later", [True, False])
def test_the_last_request_decides_although_its_upload_is_of_an_earlier_one(moment: str, asked_later: bool) -> None:
    """Given a calculation that was interrupted, then replaced by another one, and then deployed again."""
    jobs = memory.MemoryJobs(part_bytes=100)
    jobs.s3.put(memory.KEY, LARGE)
    with pytest.raises(Killed):
        jobs.do(again=True, control=Free(lives=2))
    other = replace(jobs.identity().origin, digest="0" * 32, sent=SENT + 5, first_sent=SENT + 5)
    acts = {"before": "get_object", "at the end": "complete_multipart_upload"}

    def before(operation: str, _arguments: dict[str, Any]) -> None:
        if operation == acts[moment]:
            jobs.s3.before = lambda _operation, _arguments: None
            jobs.s3.put(memory.OUTPUT_KEY, b"of another calculation", memory.OUTPUT, Metadata=other.to_metadata())

    jobs.s3.before = before
    outcome = jobs.do(again=True, sent=SENT + 9 if asked_later else SENT)
    assert jobs.s3.before is not before
    assert outcome.kind is (JobResult.DONE if asked_later else JobResult.STALE)
    is_other = jobs.s3.content(memory.OUTPUT_KEY) == b"of another calculation"
    assert (is_other, jobs.left()) == (not asked_later, [])


def test_an_upload_of_an_earlier_request_is_continued_if_no_other_calculation_has_published() -> None:
    jobs = memory.MemoryJobs(part_bytes=100)
    jobs.s3.put(memory.KEY, LARGE)
    with pytest.raises(Killed):
        jobs.do(again=True, control=Free(lives=2))
    assert jobs.do(again=True, sent=SENT + 9).kind is JobResult.DONE
    assert jobs.s3.requests.count("create_multipart_upload output") == 1
